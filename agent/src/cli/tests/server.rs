//! A server for tests that answers each request with bytes of the test's choosing and closes the connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Such as `GET /v1/members`.
    pub(super) line: String,
    /// Head fields in lower case, one a line.
    pub(super) head: String,
    pub(super) body: String,
}

/// What is done with a request.
pub(super) enum Reply {
    /// These bytes are sent and the connection is closed.
    Bytes(Vec<u8>),
    /// The same, and from then on connections are refused.
    Last(Vec<u8>),
    /// Nothing is sent until the client gives up.
    Silence,
}

/// The server, until it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(handler: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (requests, is_over) = (Arc::clone(&requests), Arc::clone(&is_over));
            move || serve(&listener, &requests, &is_over, handler)
        });
        Self {
            address,
            requests,
            is_over,
            thread: Some(thread),
        }
    }

    /// A server that answers everything alike.
    pub(super) fn answering(bytes: Vec<u8>) -> Self {
        Self::start(move |_| Reply::Bytes(bytes.clone()))
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The request lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.requests()
            .into_iter()
            .map(|request| request.line)
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread from its wait for a connection; if it has ended already, nobody is there to be woken.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A response with a JSON body.
pub(super) fn json(status: &str, body: &str) -> Vec<u8> {
    let kind = if status.starts_with('2') {
        "application/json"
    } else {
        "application/problem+json"
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\netag: \"v7\"\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A stream of events that ends after these.
pub(super) fn events(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

fn serve(
    listener: &TcpListener,
    requests: &Mutex<Vec<Request>>,
    is_over: &AtomicBool,
    mut handler: impl FnMut(&Request) -> Reply,
) {
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let Some(request) = read(&stream) else {
            continue;
        };
        let reply = handler(&request);
        requests.lock().unwrap().push(request);
        // The client may close before it has read all, which is its right.
        match reply {
            Reply::Bytes(bytes) => drop(stream.write_all(&bytes)),
            Reply::Last(bytes) => {
                let _ = stream.write_all(&bytes);
                return;
            }
            Reply::Silence => drop(stream.read(&mut [0])),
        }
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok()?;
        let field = field.trim_end().to_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&field);
        head.push('\n');
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    Some(Request {
        line,
        head,
        body: String::from_utf8(body).ok()?,
    })
}
