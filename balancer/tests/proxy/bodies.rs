//! Bodies arrive whole, or visibly broken; they are neither held back nor piled up.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::harness::{Backend, Request, TestProxy, eventually, get, soon, with_body};

/// Some MiB that do not repeat at any power of two.
fn large() -> Vec<u8> {
    (0..5_000_011u32).map(|index| (index % 251) as u8).collect()
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// A server that answers with the hash of each body.
async fn hashing() -> Backend {
    Backend::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            connection
                .answer(&blake3::hash(&request.body).to_string())
                .await;
        }
    })
    .await
}

#[tokio::test]
async fn large_uploads_arrive_whole_however_they_are_framed() {
    let backend = hashing().await;
    let proxy = TestProxy::over(&[backend.addr]);
    let body = large();
    let hash = blake3::hash(&body).to_string();
    for method in ["POST", "PUT"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n");
        let framings = [
            (
                format!("Content-Length: {}\r\n\r\n", body.len()),
                body.clone(),
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
                chunked(&body, 70_001),
            ),
        ];
        for (framing, bytes) in framings {
            let mut client = proxy.client().await;
            client.send(head.clone() + &framing).await;
            client.send(&bytes).await;
            assert_eq!(client.response().await.text(), hash, "{method} {framing}");
        }
    }
}

#[tokio::test]
async fn small_chunked_bodies_of_any_method_arrive_whole() {
    let backend = hashing().await;
    let proxy = TestProxy::over(&[backend.addr]);
    for body in ["", "some bytes"] {
        for method in ["GET", "DELETE", "POST", "PUT"] {
            let chunks = String::from_utf8(chunked(body.as_bytes(), 3)).unwrap();
            let head =
                format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            let response = proxy.ask(&(head + &chunks)).await;
            assert_eq!(
                response.text(),
                blake3::hash(body.as_bytes()).to_string(),
                "{method}"
            );
        }
    }
}

#[tokio::test]
async fn large_downloads_arrive_whole_however_they_are_framed() {
    let backend = Backend::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let body = large();
            if request.target == "/chunked" {
                connection
                    .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await;
                connection.send(chunked(&body, 40_003)).await;
            } else if request.target == "/length" {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                connection.send(head).await;
                connection.send(&body).await;
            } else {
                connection.send("HTTP/1.0 200 OK\r\n\r\n").await;
                connection.send(&body).await;
                return;
            }
        }
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    for path in ["/chunked", "/length", "/until-the-end"] {
        let response = client.ask(&get(path)).await;
        assert!(response.is_whole, "{path}");
        assert_eq!(
            blake3::hash(&response.body),
            blake3::hash(&large()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn responses_without_body_are_passed_with_their_headers_and_nothing_hangs() {
    let backend = Backend::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let response = match request.target.as_str() {
                "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
                "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 5\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            };
            connection.send(response).await;
        }
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    for (path, length) in [
        ("/length", Some("12345")),
        ("/chunked", None),
        ("/empty", Some("0")),
    ] {
        client
            .send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let response = client.response_to_head().await;
        assert_eq!(
            (response.status, response.header("content-length")),
            (200, length),
            "{path}"
        );
    }
    for status in [204, 304] {
        let response = client.ask(&get(&format!("/{status}"))).await;
        assert_eq!((response.status, response.body.len()), (status, 0));
        assert_eq!(response.header("transfer-encoding"), None);
    }
    assert_eq!(
        client.ask(&get("/empty")).await.header("content-length"),
        Some("0")
    );
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_continue() {
    let backend = hashing().await;
    let proxy = TestProxy::over(&[backend.addr]);
    for method in ["POST", "PUT"] {
        let mut client = proxy.client().await;
        let head = format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        );
        client.send(head).await;
        assert_eq!(client.response().await.status, 100, "{method}");
        client.send("body").await;
        assert_eq!(
            client.response().await.text(),
            blake3::hash(b"body").to_string(),
            "{method}"
        );
    }
    assert!(
        backend
            .received()
            .iter()
            .all(|request| request.header("expect").is_none())
    );
}

#[tokio::test]
async fn a_response_that_is_cut_short_is_seen_to_be_cut() {
    let cases = [
        ("1.1", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
        (
            "1.1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ),
        (
            "1.1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
        ),
        // For an old client the end of the connection is the end of the body: it needs a reset.
        (
            "1.0",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ),
    ];
    for (version, partial) in cases {
        let backend = Backend::start(move |mut connection| async move {
            connection.request().await;
            connection.send(partial).await;
            // The head goes out by itself, so that what follows is the body breaking off.
            connection.request().await;
        })
        .await;
        let proxy = TestProxy::with(&[backend.addr], |config| {
            config.timeouts.body_idle = Duration::from_millis(300);
        });
        let response = proxy
            .ask(&format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(response.status, 200, "{partial:?}");
        assert!(
            !response.is_whole,
            "HTTP/{version} client took {partial:?} for whole"
        );
        let metrics = proxy.running.metrics();
        eventually("the cut is counted", || metrics.responses_cut.value() == 1).await;
    }
}

#[tokio::test]
async fn events_reach_the_client_while_the_stream_stays_open() {
    let (next, events) = mpsc::channel::<&str>(1);
    let events = std::sync::Mutex::new(Some(events));
    let backend = Backend::start(move |mut connection| {
        let events = events.lock().unwrap().take();
        async move {
            connection.request().await;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            connection.send(head).await;
            let mut events = events.expect("one connection");
            while let Some(event) = events.recv().await {
                connection.send(event).await;
            }
        }
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    client.send(get("/events")).await;
    let mut seen = String::new();
    for event in ["data: one\n\n", "data: two\n\n"] {
        next.send(event).await.unwrap();
        // The next event is sent only when this one is here.
        while !seen.contains(event) {
            let byte = soon("an event", client.stream.read_u8()).await.unwrap();
            seen.push(char::from(byte));
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_read_slows_the_client_down() {
    let backend = Backend::start(|mut connection| async move {
        Request::read_head(&mut connection.stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let client = proxy.client().await;
    let mut stream = client.stream.into_inner();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let block = vec![0; 64 * 1024];
    let mut sent = 0;
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(700), stream.write(&block)).await
    {
        sent += written.unwrap();
        assert!(sent < 64 * 1024 * 1024, "somebody is taking it all in");
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_server() {
    let (left, mut is_left) = mpsc::channel::<()>(1);
    let backend = Backend::start(move |mut connection| {
        let left = left.clone();
        async move {
            connection.request().await;
            connection.closed().await;
            let _ = left.send(()).await;
        }
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    client.send(get("/slow")).await;
    eventually("the request arrives", || backend.received().len() == 1).await;
    drop(client);
    soon("the server is freed", is_left.recv()).await;
}

#[tokio::test]
async fn a_server_that_answers_before_it_has_read_is_heard() {
    let backend = Backend::start(|mut connection| async move {
        Request::read_head(&mut connection.stream).await;
        let answer = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig";
        connection.send(answer).await;
        connection.closed().await;
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        .await;
    client.send(vec![0; 100_000]).await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (413, "big"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            connection
                .answer(&format!("{}{}", request.target, request.body.len()))
                .await;
        }
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    let requests = [
        get("/a"),
        with_body("POST", "/b", "", "xx"),
        "PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxxx\r\n0\r\n\r\n"
            .into(),
        get("/d"),
    ];
    client.send(requests.concat()).await;
    for expected in ["/a0", "/b2", "/c3", "/d0"] {
        assert_eq!(client.response().await.text(), expected);
    }
}

#[tokio::test]
async fn trailers_are_dropped_and_the_body_stays_whole() {
    let backend = Backend::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            assert_eq!(request.header("trailer"), None);
            connection
                .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n")
                .await;
            connection
                .send("2\r\nok\r\n0\r\nX-T: 1\r\nContent-Length: 9\r\n\r\n")
                .await;
        }
    })
    .await;
    let proxy = TestProxy::over(&[backend.addr]);
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
                       Trailer: X-T\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\nHost: evil\r\n\r\n";
        let response = client.ask(request).await;
        assert_eq!(
            (response.text().as_str(), response.header("trailer")),
            ("ok", None)
        );
    }
    assert!(
        backend
            .received()
            .iter()
            .all(|request| request.body == b"hi")
    );
}
