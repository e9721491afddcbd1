//! Which requests may be carried out twice.
//!
//! RFC 9110, 9.2.2 names the idempotent methods. A client that sends an `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header) has arranged with the server that repeats of any
//! method are recognised. Methods not known here are taken not to be idempotent.

use http::{HeaderMap, Method};

/// Carries out at most once what bears the same key. In use by many APIs, drafted by the IETF.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Whether carrying out this request twice does what carrying it out once does.
pub(crate) fn is_idempotent(method: &Method, headers: &HeaderMap) -> bool {
    let by_method = matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    by_method
        || headers
            .get(IDEMPOTENCY_KEY)
            .is_some_and(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn methods_are_idempotent_as_the_standard_says() {
        let none = HeaderMap::new();
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(&method.parse().unwrap(), &none), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "LOCK", "get"] {
            assert!(!is_idempotent(&method.parse().unwrap(), &none), "{method}");
        }
    }

    #[test]
    fn a_key_makes_any_method_repeatable_unless_it_is_empty() {
        let key = |value| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static(IDEMPOTENCY_KEY),
                HeaderValue::from_static(value),
            )])
        };
        assert!(is_idempotent(&Method::POST, &key("8e03978e")));
        assert!(!is_idempotent(&Method::POST, &key("")));
    }
}
