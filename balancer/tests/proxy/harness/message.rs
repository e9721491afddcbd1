//! HTTP/1 messages, parsed from bytes as plainly as possible and apart from what is tested.

use tokio::io::{AsyncRead, AsyncReadExt};

/// A request as a test server received it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    head: Head,
    pub(crate) body: Vec<u8>,
}

/// A response as a test client received it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// Whether its framing says that this is all of it.
    pub(crate) is_whole: bool,
}

/// The first line and the header lines of a message.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    lines: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').expect("a header line");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let lines = lines.filter(|line| !line.is_empty()).map(header).collect();
        Self { first, lines }
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.lines.iter().filter(|(found, _)| found == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The only header of this name. A second one fails the test.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} repeated: {all:?}");
        all.first().copied()
    }

    pub(crate) fn content_length(&self) -> Option<usize> {
        self.one("content-length")
            .map(|length| length.parse().unwrap())
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.one("transfer-encoding")
            .is_some_and(|coding| coding == "chunked")
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.one(name)
    }

    /// Reads a request to its end; `None` if the connection ends before.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut request = Self::read_head(stream).await?;
        request.read_body(stream).await?;
        Some(request)
    }

    /// Reads a head only.
    pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let head = Head::parse(&read_head(stream).await?);
        let mut words = head.first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self {
            method,
            target,
            head,
            body: Vec::new(),
        })
    }

    /// Reads the body that the head announced.
    pub(crate) async fn read_body(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Option<()> {
        if self.head.is_chunked() {
            return read_chunks(stream, &mut self.body).await;
        }
        let length = self.head.content_length().unwrap_or(0);
        self.body = read_exactly(stream, length).await.ok()?;
        Some(())
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.one(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads a response. `None` if the connection ends before its head does.
    pub(crate) async fn read(
        stream: &mut (impl AsyncRead + Unpin),
        to_head_request: bool,
    ) -> Option<Self> {
        let head = Head::parse(&read_head(stream).await?);
        let status = head.first.split(' ').nth(1)?.parse().ok()?;
        let mut response = Self {
            status,
            head,
            body: Vec::new(),
            is_whole: true,
        };
        if to_head_request || matches!(status, 100..=199 | 204 | 304) {
            return Some(response);
        }
        if response.head.is_chunked() {
            response.is_whole = read_chunks(stream, &mut response.body).await.is_some();
        } else if let Some(length) = response.head.content_length() {
            match read_exactly(stream, length).await {
                Ok(body) => response.body = body,
                Err(part) => (response.body, response.is_whole) = (part, false),
            }
        } else {
            // Only a clean end says that this is all.
            response.is_whole = stream.read_to_end(&mut response.body).await.is_ok();
        }
        Some(response)
    }
}

/// Reads up to and including an empty line; `None` if the connection ends before.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("a head in ASCII"))
}

/// Reads `length` bytes, or what there is.
async fn read_exactly(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
) -> Result<Vec<u8>, Vec<u8>> {
    let mut body = Vec::new();
    let read = stream.take(length as u64).read_to_end(&mut body).await;
    if read.is_ok() && body.len() == length {
        Ok(body)
    } else {
        Err(body)
    }
}

/// Reads chunks to the last; `None` if the connection ends before.
async fn read_chunks(stream: &mut (impl AsyncRead + Unpin), body: &mut Vec<u8>) -> Option<()> {
    loop {
        let line = read_line(stream).await?;
        let size = line.split(';').next().unwrap();
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        if size == 0 {
            while !read_line(stream).await?.is_empty() {}
            return Some(());
        }
        match read_exactly(stream, size).await {
            Ok(chunk) => body.extend_from_slice(&chunk),
            Err(part) => {
                body.extend_from_slice(&part);
                return None;
            }
        }
        assert_eq!(
            read_line(stream).await?,
            "",
            "a chunk ends where its size says"
        );
    }
}

async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.ok()?);
    }
    line.truncate(line.len() - 2);
    Some(String::from_utf8(line).expect("a line in ASCII"))
}
