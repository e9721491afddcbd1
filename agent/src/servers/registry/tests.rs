//! A registry on records in memory, in a cluster without members.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::records::tests::records;

const PROXY: &str = "127.0.0.1:9402";

/// A registry with what it needs to register.
struct Bench {
    registry: Registry,
    audit: AuditLog,
    actor: Actor,
}

impl Bench {
    fn new() -> Self {
        let records = records();
        let (registry, following) = Registry::new(records.clone(), PROXY.parse().unwrap());
        tokio::spawn(following);
        Self {
            registry,
            audit: AuditLog::new(records, "n1".parse().unwrap()),
            actor: Actor::new(Some("liang"), None, Some("more room")).unwrap(),
        }
    }

    async fn register(&self, id: &str, address: &str) -> Result<Registered, RegisterError> {
        self.register_with(id, registration(address), false).await
    }

    async fn register_with(
        &self,
        id: &str,
        registration: Registration,
        replace: bool,
    ) -> Result<Registered, RegisterError> {
        let members = Members::default();
        let id = id.parse().unwrap();
        self.registry
            .register(
                id,
                registration,
                replace,
                &members,
                &self.audit,
                &self.actor,
            )
            .await
    }

    fn audited(&self) -> Vec<(String, Value, Value)> {
        let entries = self.audit.newest(None, 100).unwrap();
        let entries = entries.into_iter();
        entries
            .map(|entry| {
                (
                    entry.node,
                    entry.before["address"].clone(),
                    entry.after["address"].clone(),
                )
            })
            .collect()
    }
}

fn registration(address: &str) -> Registration {
    Registration {
        address: address.parse().unwrap(),
        health: "/health".parse().unwrap(),
        weight: 100,
        labels: Default::default(),
    }
}

#[tokio::test]
async fn a_server_is_registered_once_and_recorded_once() {
    let bench = Bench::new();
    let first = bench.register("s1", "127.0.0.1:1").await.unwrap();
    assert!(first.created);
    assert_eq!(first.server.state(), MemberState::Joining);
    let again = bench.register("s1", "127.0.0.1:1").await.unwrap();
    assert!(!again.created);
    assert_eq!(again.server.registered, first.server.registered);
    assert_eq!(
        bench.audited(),
        [("s1".to_owned(), Value::Null, json!("127.0.0.1:1"))]
    );
    assert!(bench.registry.is_registered(&first.server.id).unwrap());
}

#[tokio::test]
async fn settings_change_in_place_and_the_date_of_registration_stays() {
    let bench = Bench::new();
    let first = bench.register("s1", "127.0.0.1:1").await.unwrap();
    let lighter = Registration {
        weight: 7,
        ..registration("127.0.0.1:1")
    };
    let changed = bench.register_with("s1", lighter, false).await.unwrap();
    assert!(!changed.created);
    assert_eq!(changed.server.weight(), 7);
    assert_eq!(changed.server.registered, first.server.registered);
    assert_eq!(bench.audited().len(), 2);
}

#[tokio::test]
async fn a_server_moves_only_if_that_is_said_and_its_verdict_stays_behind() {
    let bench = Bench::new();
    bench.register("s1", "127.0.0.1:1").await.unwrap();
    let verdict = Verdict {
        healthy: true,
        since_ms: 1,
        reason: None,
        by: "n1".parse().unwrap(),
        latency_ms: None,
        address: "127.0.0.1:1".to_owned(),
    };
    let records = bench.registry.records();
    records.put(System::Probes, "s1", &verdict).await.unwrap();
    let mut seen = bench.registry.watch();
    let active =
        |servers: &Arc<Servers>| servers.iter().any(|one| one.state() == MemberState::Active);
    seen.wait_for(active).await.unwrap();

    let refused = bench.register("s1", "127.0.0.1:2").await;
    assert!(
        matches!(refused, Err(RegisterError::Elsewhere { .. })),
        "{refused:?}"
    );
    let moved = bench.register_with("s1", registration("127.0.0.1:2"), true);
    assert_eq!(moved.await.unwrap().server.state(), MemberState::Joining);
}

#[tokio::test]
async fn two_servers_at_one_address_are_refused() {
    let bench = Bench::new();
    bench.register("s1", "127.0.0.1:1").await.unwrap();
    let refused = bench.register("s2", "127.0.0.1:1").await;
    assert!(matches!(refused, Err(RegisterError::Taken { ref id, .. }) if id.as_str() == "s1"));
    assert_eq!(bench.registry.servers().len(), 1);
}

#[tokio::test]
async fn an_address_that_leads_nowhere_or_to_a_proxy_is_refused_and_nothing_is_stored() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nbasic-node: n2\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
    });
    for (address, expected) in [
        ("169.254.169.254:80", "link-local"),
        (proxy.as_str(), "the proxy of an agent answers"),
    ] {
        let refused = bench.register("s1", address).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{address}: {refused}");
    }
    assert!(bench.registry.servers().is_empty());
    assert!(bench.audited().is_empty());
}

#[tokio::test]
async fn what_was_decided_about_an_earlier_bearer_of_the_name_does_not_hold() {
    let bench = Bench::new();
    let records = bench.registry.records();
    records
        .put(System::Members, "s1/drain", &json!({}))
        .await
        .unwrap();
    let registered = bench.register("s1", "127.0.0.1:1").await.unwrap();
    assert!(!registered.server.directive.drain);
}

#[tokio::test]
async fn a_removal_of_an_earlier_bearer_of_the_name_stays_and_does_not_hold_for_the_server() {
    let bench = Bench::new();
    let records = bench.registry.records();
    // By a clock that is far ahead of this one.
    let removal = json!({ "joined": JoinMark::MAX.0 - 1 });
    records
        .put(System::Members, "s1/removed", &removal)
        .await
        .unwrap();
    let registered = bench.register("s1", "127.0.0.1:1").await.unwrap();
    assert_eq!(registered.server.state(), MemberState::Joining);
    let kept = records.get::<Value>(System::Members, "s1/removed");
    assert_eq!(kept.unwrap(), Some(removal));
    let moved = bench.register_with("s1", registration("127.0.0.1:2"), true);
    assert_eq!(moved.await.unwrap().server.state(), MemberState::Joining);
}

#[tokio::test]
async fn a_server_that_was_removed_is_there_again_when_it_is_registered_anew() {
    let bench = Bench::new();
    let first = bench.register("s1", "127.0.0.1:1").await.unwrap();
    let removal = json!({ "joined": first.server.registered });
    let records = bench.registry.records();
    records
        .put(System::Members, "s1/removed", &removal)
        .await
        .unwrap();
    let mut seen = bench.registry.watch();
    let removed = |servers: &Arc<Servers>| {
        let mut servers = servers.iter();
        servers.any(|server| server.state() == MemberState::Removed)
    };
    seen.wait_for(removed).await.unwrap();
    let again = bench.register("s1", "127.0.0.1:1").await.unwrap();
    assert_eq!(again.server.state(), MemberState::Joining);
}

#[tokio::test]
async fn a_record_that_is_not_understood_is_overwritten_only_if_that_is_said() {
    let bench = Bench::new();
    let records = bench.registry.records();
    let odd = json!({ "address": "nowhere", "health": "/", "weight": 1, "registered": 1 });
    for (key, document) in [("s1/server", &odd), ("s1/drain", &json!({}))] {
        let put = records.put(System::Members, key, document);
        put.await.unwrap();
    }
    let refused = bench.register("s1", "127.0.0.1:1").await;
    assert!(
        matches!(refused, Err(RegisterError::Unintelligible { .. })),
        "{refused:?}"
    );
    let kept = records.get::<Value>(System::Members, "s1/server");
    assert_eq!(kept.unwrap(), Some(odd));
    assert_eq!(bench.audited(), []);

    let replaced = bench.register_with("s1", registration("127.0.0.1:1"), true);
    let replaced = replaced.await.unwrap();
    assert!(!replaced.created && replaced.server.directive.drain);
    assert!(bench.registry.is_registered(&replaced.server.id).unwrap());
    assert_eq!(bench.registry.servers().len(), 1);
    let overwritten = ("s1".to_owned(), json!("nowhere"), json!("127.0.0.1:1"));
    assert_eq!(bench.audited(), [overwritten]);
}

#[tokio::test]
async fn decisions_made_later_hold_and_records_of_others_are_passed_over() {
    let bench = Bench::new();
    bench.register("s1", "127.0.0.1:1").await.unwrap();
    let records = bench.registry.records();
    let odd = json!({ "address": "nowhere", "health": "/", "weight": 1, "registered": 1 });
    records
        .put(System::Members, "s2/server", &odd)
        .await
        .unwrap();
    records
        .put(System::Members, "s3/server", &json!("?"))
        .await
        .unwrap();
    records
        .put(System::Members, "s1/weight", &json!({ "weight": 0 }))
        .await
        .unwrap();
    let mut seen = bench.registry.watch();
    let weightless = |servers: &Arc<Servers>| servers.iter().all(|server| server.weight() == 0);
    let servers = seen.wait_for(weightless).await.unwrap();
    assert_eq!(servers.len(), 1);
}
