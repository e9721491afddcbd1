//! A server of a few lines, attended to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use basic_membership::{JoinMark, MemberState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::records::tests::records;
use crate::servers::registration::{Record, Registration};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const PACE: Pace = Pace {
    interval: Duration::from_millis(20),
    timeout: Duration::from_secs(5),
};

/// A server that says whether it is well.
async fn server(well: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let status = if well.load(Ordering::SeqCst) {
                "200 OK"
            } else {
                "503 Ill"
            };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

async fn register(records: &Records, address: SocketAddr) {
    let registration = Registration {
        address: address.to_string().parse().unwrap(),
        health: "/health".parse().unwrap(),
        weight: 100,
        labels: Default::default(),
    };
    let record = Record::new(&registration, JoinMark(1));
    records
        .put(System::Members, "s1/server", &record)
        .await
        .unwrap();
}

fn duty_at(address: SocketAddr) -> Duty {
    Duty {
        server: "s1".parse().unwrap(),
        address: address.to_string(),
        health: "/health".to_owned(),
        target: Ok(address),
    }
}

/// Waits for a verdict that fits.
async fn verdict(records: &Records, fits: impl Fn(&Verdict) -> bool) -> Verdict {
    let mut changes = records.changes(System::Probes);
    let waiting = async {
        loop {
            let found = records.get::<Verdict>(System::Probes, "s1").unwrap();
            if let Some(found) = found.filter(|found| fits(found)) {
                return found;
            }
            changes.changed().await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap()
}

#[tokio::test]
async fn the_verdict_follows_the_server_and_survives_a_change_of_owner() {
    let (records, well) = (records(), Arc::new(AtomicBool::new(true)));
    let address = server(well.clone()).await;
    register(&records, address).await;
    let attention = |own: &str| {
        let own = own.parse().unwrap();
        tokio::spawn(attend(records.clone(), own, duty_at(address), PACE))
    };

    let first = attention("n1");
    let good = verdict(&records, |found| found.healthy).await;
    assert_eq!(good.by.as_str(), "n1");
    well.store(false, Ordering::SeqCst);
    let bad = verdict(&records, |found| !found.healthy).await;
    assert_eq!(
        bad.reason.as_deref(),
        Some("answered with status 503 Service Unavailable")
    );
    well.store(true, Ordering::SeqCst);
    let good = verdict(&records, |found| found.healthy).await;

    first.abort();
    let second = attention("n2");
    let taken = verdict(&records, |found| found.by.as_str() == "n2").await;
    assert_eq!((taken.healthy, taken.since_ms), (true, good.since_ms));
    second.abort();
}

#[tokio::test]
async fn a_server_that_cannot_be_asked_is_not_well_for_that_reason() {
    let records = records();
    let address = "127.0.0.1:1".parse().unwrap();
    register(&records, address).await;
    let duty = Duty {
        target: Err("its host does not resolve".to_owned()),
        ..duty_at(address)
    };
    let attention = attend(records.clone(), "n1".parse().unwrap(), duty, PACE);
    let attention = tokio::spawn(attention);
    let bad = verdict(&records, |_| true).await;
    assert!(!bad.healthy);
    assert_eq!(bad.reason.as_deref(), Some("its host does not resolve"));
    attention.abort();
}

#[tokio::test]
async fn nothing_is_written_about_a_server_that_is_not_registered_there() {
    let records = records();
    register(&records, "127.0.0.1:2".parse().unwrap()).await;
    let publisher = Publisher {
        records: records.clone(),
        own: "n1".parse().unwrap(),
        duty: duty_at("127.0.0.1:1".parse().unwrap()),
        was_refused: false,
    };
    publisher
        .try_publish(&not_askable("it is elsewhere"))
        .await
        .unwrap();
    assert_eq!(records.get::<Verdict>(System::Probes, "s1").unwrap(), None);
}

#[test]
fn an_address_where_no_server_may_be_is_not_asked() {
    let server = crate::servers::server::tests::server("s1", None);
    assert_eq!(server.state(), MemberState::Joining);
    let duty = |fault: Option<AddressFault>| {
        duty(&server, &mut Names::default(), |_| {
            fault.clone().map_or(Ok(()), Err)
        })
        .unwrap()
        .target
    };
    assert_eq!(duty(None), Ok("10.0.0.9:8080".parse().unwrap()));
    let fault = AddressFault::LinkLocal("169.254.169.254".parse().unwrap());
    assert_eq!(duty(Some(fault.clone())), Err(fault.to_string()));
}
