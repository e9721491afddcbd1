//! Users: register, log in, list. In memory, one process's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::routes::Server;

/// Users kept at most; beyond them registering answers 507.
const USERS_MAX: usize = 10_000;
/// Rows of a list at most, as in the original, which has no paging.
const ROWS_MAX: usize = 10;
/// How long a token is good for.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The users of this process and the key that signs their tokens.
pub(crate) struct Accounts {
    users: Mutex<BTreeMap<String, Account>>,
    token_key: [u8; 32],
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            users: Mutex::default(),
            // Tokens die with the process, as its users do.
            token_key: blake3::derive_key(
                "basic-tests sample-server token key",
                format!("{:?} {}", SystemTime::now(), std::process::id()).as_bytes(),
            ),
        }
    }
}

struct Account {
    user: User,
    password: blake3::Hash,
}

/// What others may see of a user.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct User {
    id: u64,
    username: String,
    email: String,
    phone: String,
    role: &'static str,
    status: &'static str,
    created_at: String,
}

#[derive(Deserialize)]
pub(crate) struct Registration {
    username: String,
    email: String,
    password: String,
    #[serde(default)]
    phone: String,
}

#[derive(Deserialize)]
pub(crate) struct Login {
    username: String,
    password: String,
}

/// Why a registration was refused.
#[derive(Debug, PartialEq, thiserror::Error)]
enum RegisterError {
    #[error("Username, email and password are required")]
    Incomplete,
    #[error("User already exists")]
    Exists,
    #[error("Too many users; restart the server")]
    Full,
}

impl RegisterError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Incomplete => StatusCode::BAD_REQUEST,
            Self::Exists => StatusCode::CONFLICT,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

impl Accounts {
    fn register(&self, new: Registration, now: SystemTime) -> Result<(), RegisterError> {
        if new.username.is_empty() || new.email.is_empty() || new.password.is_empty() {
            return Err(RegisterError::Incomplete);
        }
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.contains_key(&new.username) {
            return Err(RegisterError::Exists);
        }
        if users.len() >= USERS_MAX {
            return Err(RegisterError::Full);
        }
        let password = password_hash(&new.username, &new.password);
        let user = User {
            id: users.len() as u64 + 1,
            username: new.username.clone(),
            email: new.email,
            phone: new.phone,
            role: "user",
            status: "active",
            created_at: humantime::format_rfc3339_seconds(now).to_string(),
        };
        users.insert(new.username, Account { user, password });
        Ok(())
    }

    /// The user and a token, if name and password belong together.
    fn log_in(&self, login: &Login, now: SystemTime) -> Option<(User, String)> {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let account = users.get(&login.username)?;
        // Comparing two `blake3::Hash` takes the same time wherever they differ.
        if account.password != password_hash(&login.username, &login.password) {
            return None;
        }
        Some((account.user.clone(), self.token(&account.user, now)))
    }

    fn rows(&self) -> Vec<User> {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users
            .values()
            .take(ROWS_MAX)
            .map(|account| account.user.clone())
            .collect()
    }

    /// Claims and a keyed hash of them: as opaque to a client as the original's.
    fn token(&self, user: &User, now: SystemTime) -> String {
        let expires = humantime::format_rfc3339_seconds(now + TOKEN_LIFETIME);
        let claims = format!("{}.{expires}", user.id);
        let signature = blake3::keyed_hash(&self.token_key, claims.as_bytes());
        format!("{claims}.{signature}")
    }
}

pub(crate) async fn register(
    State(server): State<Arc<Server>>,
    Json(registration): Json<Registration>,
) -> (StatusCode, Json<Value>) {
    match server.accounts.register(registration, SystemTime::now()) {
        Ok(()) => {
            let answer = json!({ "status": "success", "message": "User registered" });
            (StatusCode::OK, Json(answer))
        }
        Err(error) => (error.status(), Json(json!({ "error": error.to_string() }))),
    }
}

pub(crate) async fn login(
    State(server): State<Arc<Server>>,
    Json(login): Json<Login>,
) -> (StatusCode, Json<Value>) {
    match server.accounts.log_in(&login, SystemTime::now()) {
        Some((user, token)) => (
            StatusCode::OK,
            Json(json!({ "success": true, "token": token, "user": user })),
        ),
        None => {
            let answer = json!({ "error": "Invalid username or password" });
            (StatusCode::UNAUTHORIZED, Json(answer))
        }
    }
}

pub(crate) async fn users(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({ "users": server.accounts.rows() }))
}

/// A plain hash is enough for passwords that never leave this process; the
/// original spends 100 ms of CPU here, which tests ask for by `X-Sample-Delay`.
fn password_hash(username: &str, password: &str) -> blake3::Hash {
    let key = blake3::derive_key("basic-tests sample-server password", username.as_bytes());
    blake3::keyed_hash(&key, password.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(username: &str) -> Registration {
        Registration {
            username: username.to_owned(),
            email: format!("{username}@example.org"),
            password: "correct horse".to_owned(),
            phone: String::new(),
        }
    }

    fn login(username: &str, password: &str) -> Login {
        Login {
            username: username.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn a_name_is_registered_once() {
        let accounts = Accounts::default();
        assert_eq!(
            accounts.register(registration("ann"), SystemTime::UNIX_EPOCH),
            Ok(())
        );
        let again = accounts.register(registration("ann"), SystemTime::UNIX_EPOCH);
        assert_eq!(again, Err(RegisterError::Exists));
    }

    #[test]
    fn only_the_right_password_gets_a_token() {
        let accounts = Accounts::default();
        let now = SystemTime::UNIX_EPOCH;
        accounts.register(registration("ann"), now).unwrap();
        assert!(
            accounts
                .log_in(&login("ann", "correct horse"), now)
                .is_some()
        );
        assert!(accounts.log_in(&login("ann", "wrong"), now).is_none());
        assert!(
            accounts
                .log_in(&login("bob", "correct horse"), now)
                .is_none()
        );
    }

    #[test]
    fn a_list_has_at_most_ten_rows() {
        let accounts = Accounts::default();
        for i in 0..12 {
            accounts
                .register(registration(&format!("user-{i}")), SystemTime::UNIX_EPOCH)
                .unwrap();
        }
        assert_eq!(accounts.rows().len(), ROWS_MAX);
    }
}
