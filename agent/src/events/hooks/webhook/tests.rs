//! Webhooks against a listener that answers as it is told.

use std::sync::Mutex;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Answers each request with the next status, the last one for ever; returns its port and the requests.
async fn listener(
    statuses: &'static [u16],
    tls: Option<TlsAcceptor>,
) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let status = statuses[number.min(statuses.len() - 1)];
            let request = match &tls {
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => answer(stream, status).await,
                    Err(_) => continue,
                },
                None => answer(stream, status).await,
            };
            seen.lock().unwrap().push(request);
        }
    });
    (port, requests)
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: u16) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"}") {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the request broke off");
        request.extend_from_slice(&buffer[..count]);
    }
    let head = format!("HTTP/1.1 {status} Told\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    String::from_utf8(request).unwrap()
}

fn payload() -> Payload {
    Payload {
        event_id: "n1/7".to_owned(),
        body: br#"{"id":7}"#.to_vec(),
    }
}

fn url(text: &str) -> WebhookUrl {
    text.parse().unwrap()
}

fn quick(webhook: Webhook) -> Webhook {
    Webhook {
        pauses: [Duration::from_millis(1); PAUSES.len()],
        ..webhook
    }
}

#[tokio::test]
async fn an_event_is_posted_with_its_headers() {
    let (port, requests) = listener(&[204], None).await;
    let webhook = Webhook::new(&url(&format!("http://127.0.0.1:{port}/in?token=x"))).unwrap();
    webhook.deliver(&payload(), |_| {}).await.unwrap();
    let request = requests.lock().unwrap()[0].clone();
    assert!(
        request.starts_with("POST /in?token=x HTTP/1.1\r\n"),
        "{request}"
    );
    for field in [
        "content-type: application/json\r\n",
        "basic-event-id: n1/7\r\n",
        "user-agent: basic-agent/",
    ] {
        assert!(request.contains(field), "{field} is missing: {request}");
    }
    assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")));
    assert!(request.ends_with("\r\n\r\n{\"id\":7}"), "{request}");
}

#[tokio::test]
async fn a_receiver_that_is_busy_twice_is_told_at_the_third_try() {
    let (port, requests) = listener(&[500, 429, 200], None).await;
    let webhook = quick(Webhook::new(&url(&format!("http://127.0.0.1:{port}"))).unwrap());
    let retries = Mutex::new(Vec::new());
    let payload = payload();
    let delivered = webhook.deliver(&payload, |error| {
        retries.lock().unwrap().push(error.to_string());
    });
    delivered.await.unwrap();
    assert_eq!(requests.lock().unwrap().len(), 3);
    let target = format!("127.0.0.1:{port}");
    assert_eq!(
        *retries.lock().unwrap(),
        [
            format!("{target} answered 500 Internal Server Error"),
            format!("{target} answered 429 Too Many Requests")
        ]
    );
}

#[tokio::test]
async fn five_tries_are_made_and_no_more() {
    let (port, requests) = listener(&[503], None).await;
    let webhook = quick(Webhook::new(&url(&format!("http://127.0.0.1:{port}"))).unwrap());
    let error = webhook.deliver(&payload(), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(requests.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_receiver_that_does_not_want_it_is_not_asked_again() {
    let (port, requests) = listener(&[404], None).await;
    let target = format!("http://127.0.0.1:{port}/secret-token");
    let webhook = quick(Webhook::new(&url(&target)).unwrap());
    let error = webhook.deliver(&payload(), |_| {}).await.unwrap_err();
    assert_eq!(requests.lock().unwrap().len(), 1);
    assert!(!error.to_string().contains("secret-token"), "{error}");
}

#[tokio::test]
async fn a_receiver_that_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}", silent.local_addr().unwrap());
    let mut webhook = quick(Webhook::new(&url(&target)).unwrap());
    webhook.time_limit = Duration::from_millis(20);
    let error = webhook.deliver(&payload(), |_| {}).await.unwrap_err();
    assert!(matches!(error, WebhookError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn https_is_spoken_with_those_whom_the_system_trusts_and_nobody_else() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let (port, requests) = listener(&[200], Some(TlsAcceptor::from(Arc::new(config)))).await;
    let url = url(&format!("https://localhost:{port}/x"));

    let stranger = RootCertStore::empty();
    let distrustful = quick(Webhook::with_roots(&url, Some(stranger)).unwrap());
    let error = distrustful.deliver(&payload(), |_| {}).await.unwrap_err();
    assert!(matches!(error, WebhookError::Tls { .. }), "{error}");
    assert_eq!(requests.lock().unwrap().len(), 0);

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let webhook = Webhook::with_roots(&url, Some(roots)).unwrap();
    webhook.deliver(&payload(), |_| {}).await.unwrap();
    assert_eq!(requests.lock().unwrap().len(), 1);
}
