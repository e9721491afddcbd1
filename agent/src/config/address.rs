//! Addresses by name: `host:port`, URLs of host and port, and the path of a health check.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::uri::{PathAndQuery, Scheme, Uri};
use toml_edit::{Array, Value};

use super::schema::FlagShape;
use super::value::{Setting, ValueError};

/// Longest DNS name in text form (RFC 1035, section 2.3.4).
const HOST_MAX: usize = 253;
/// Most seeds. Any one leads to the whole cluster, and a longer list is a mistake of whatever wrote it.
const SEEDS_MAX: usize = 256;

/// A host, by address or by name, and a port other than 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// The host: a DNS name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, if the host is one and no name has to be resolved.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.host
            .parse::<IpAddr>()
            .ok()
            .map(|ip| SocketAddr::new(ip, self.port))
    }

    /// Whether the host surely is this machine: a loopback address, or `localhost` (RFC 6761, section 6.3).
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        // Digits only: the parser of integers would take a sign.
        let digits = Some(port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()))?;
        let port = digits.parse().ok().filter(|port| *port != 0)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest
                .strip_suffix(']')?
                .parse::<Ipv6Addr>()
                .ok()?
                .to_string(),
            None if is_host_name(host) => host.to_owned(),
            None => return None,
        };
        let host_port = Self { host, port };
        let unspecified = host_port
            .socket_address()
            .is_some_and(|a| a.ip().is_unspecified());
        (!unspecified).then_some(host_port)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        <Self as Setting>::from_text(text)
    }
}

impl Setting for HostPort {
    const EXPECTED: &'static str =
        "host:port such as \"10.0.0.2:9400\" or \"basic.example.org:9400\"";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        Self::parse(text).ok_or_else(|| ValueError::malformed::<Self>(text))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Setting for Vec<HostPort> {
    const EXPECTED: &'static str =
        "an array of host:port such as [\"10.0.0.2:9400\", \"basic.example.org:9400\"]";
    const FLAG_SHAPE: FlagShape = FlagShape::Many;

    fn from_text(text: &str) -> Result<Self, ValueError> {
        let texts: Vec<_> = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect();
        host_ports(texts.into_iter())
    }

    fn to_text(&self) -> String {
        let texts: Vec<_> = self.iter().map(HostPort::to_string).collect();
        texts.join(",")
    }

    fn from_toml(value: &Value) -> Result<Self, ValueError> {
        let array = value
            .as_array()
            .ok_or_else(|| ValueError::wrong_type::<Self>(value))?;
        let texts: Vec<_> = array
            .iter()
            .map(|item| {
                item.as_str()
                    .ok_or_else(|| ValueError::wrong_type::<HostPort>(item))
            })
            .collect::<Result<_, _>>()?;
        host_ports(texts.into_iter())
    }

    fn to_toml(&self) -> Value {
        Value::from(self.iter().map(HostPort::to_string).collect::<Array>())
    }
}

/// `http://host:port`, nothing more: where a server is, without a word on what to ask it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpUrl(HostPort);

/// What is wrong with a URL of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// It does not parse.
    #[error("is not a URL such as \"http://127.0.0.1:8080\"")]
    Malformed,
    /// It is not `http`.
    #[error("is not an http URL, and only these are supported")]
    Scheme,
    /// It has a user name.
    #[error("holds a user name, which would not be sent; leave it out")]
    UserInfo,
    /// It has a path or a query.
    #[error("has a path, but only host and port are wanted; leave it out")]
    Path,
    /// The host is no name and no address, or stands for every interface, or the port is 0.
    #[error("names no host and port that can be connected to")]
    Host,
}

impl HttpUrl {
    /// Host and port; the port of a URL without one is 80.
    pub fn host_port(&self) -> &HostPort {
        &self.0
    }

    /// The URL of a server on this host that listens at `address`: a server on every interface is reached by loopback.
    pub fn of_listener(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self(HostPort {
            host: ip.to_string(),
            port: address.port(),
        })
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// If it is more, less or other than `http` with host and port.
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        let uri: Uri = text.parse().map_err(|_| UrlFault::Malformed)?;
        let authority = uri.authority().ok_or(UrlFault::Malformed)?;
        if uri.scheme().ok_or(UrlFault::Malformed)? != &Scheme::HTTP {
            return Err(UrlFault::Scheme);
        }
        if authority.as_str().contains('@') {
            return Err(UrlFault::UserInfo);
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(UrlFault::Path);
        }
        // An authority without a port, or with an empty one, has the port of the scheme (RFC 9110, section 4.2.1).
        let host = authority.host();
        let port = authority
            .as_str()
            .strip_prefix(host)
            .ok_or(UrlFault::Host)?;
        let port = if matches!(port, "" | ":") {
            ":80"
        } else {
            port
        };
        HostPort::parse(&format!("{host}{port}"))
            .map(Self)
            .ok_or(UrlFault::Host)
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

impl Setting for HttpUrl {
    const EXPECTED: &'static str = "a URL such as \"http://127.0.0.1:8080\"";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        Self::parse(text).map_err(|fault| ValueError::Url {
            value: text.to_owned(),
            fault,
        })
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// The path, with a query where need be, that is asked for health.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HealthPath(String);

impl HealthPath {
    /// The path; it begins with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HealthPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        <Self as Setting>::from_text(text)
    }
}

impl Setting for HealthPath {
    const EXPECTED: &'static str = "a path such as \"/health\"";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        let valid = text.starts_with('/')
            && !text.contains('#')
            && text
                .parse::<PathAndQuery>()
                .is_ok_and(|path| path.as_str() == text);
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::malformed::<Self>(text))
        }
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

fn host_ports<'a>(
    texts: impl ExactSizeIterator<Item = &'a str>,
) -> Result<Vec<HostPort>, ValueError> {
    if texts.len() > SEEDS_MAX {
        return Err(ValueError::TooMany {
            count: texts.len(),
            max: SEEDS_MAX,
        });
    }
    texts.map(HostPort::from_text).collect()
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63, as resolvers take them. A name of digits and dots
/// alone has to be an IPv4 address: some resolvers would read `10.1` as 10.0.0.1.
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let only_digits = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if only_digits {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.len() <= HOST_MAX
        && host
            .strip_suffix('.')
            .unwrap_or(host)
            .split('.')
            .all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port() {
        for good in [
            "10.0.0.2:9400",
            "basic.example.org:1",
            "[::1]:65535",
            "my_host:80",
            "a.b.:7",
        ] {
            assert_eq!(
                HostPort::from_text(good).map(|h| h.to_string()).as_deref(),
                Ok(good)
            );
        }
        for bad in [
            "",
            ":9400",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "::1:9400",
            "[::1]",
            "[x]:1",
            "10.1:9400",
            "999.0.0.1:1",
            "a b:1",
            "-:x",
            "a..b:1",
            "http://a:1",
            "0.0.0.0:1",
            "[::]:1",
        ] {
            assert!(
                HostPort::from_text(bad).is_err(),
                "{bad:?} was taken for host:port"
            );
        }
    }

    #[test]
    fn loopback_is_told_from_other_hosts() {
        for (text, loopback) in [
            ("127.0.0.2:1", true),
            ("[::1]:1", true),
            ("LocalHost:1", true),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(
                HostPort::from_text(text).map(|h| h.is_loopback()),
                Ok(loopback),
                "{text}"
            );
        }
    }

    #[test]
    fn an_app_url_without_a_port_has_port_80() {
        assert_eq!(
            HttpUrl::from_text("http://[::1]").unwrap().to_string(),
            "http://[::1]:80"
        );
        assert_eq!(
            HttpUrl::from_text("http://app/").unwrap().to_string(),
            "http://app:80"
        );
        assert_eq!(
            HttpUrl::from_text("HTTP://app:8080").unwrap().to_string(),
            "http://app:8080"
        );
    }

    #[test]
    fn an_app_url_that_cannot_be_used_says_why() {
        for (text, fault) in [
            ("", UrlFault::Malformed),
            ("127.0.0.1:8080", UrlFault::Malformed),
            ("/health", UrlFault::Malformed),
            ("https://127.0.0.1:8080", UrlFault::Scheme),
            ("http://user@127.0.0.1:8080", UrlFault::UserInfo),
            ("http://127.0.0.1:8080/api", UrlFault::Path),
            ("http://127.0.0.1:8080/?a=b", UrlFault::Path),
            ("http://0.0.0.0:8080", UrlFault::Host),
            ("http://127.0.0.1:0", UrlFault::Host),
            ("http://127.0.0.1:99999", UrlFault::Host),
        ] {
            let expected = ValueError::Url {
                value: text.to_owned(),
                fault,
            };
            assert_eq!(HttpUrl::from_text(text), Err(expected));
        }
    }

    #[test]
    fn a_health_path_is_a_path_and_perhaps_a_query() {
        for good in ["/", "/health", "/health?deep=1"] {
            assert_eq!(
                HealthPath::from_text(good).map(|p| p.0).as_deref(),
                Ok(good)
            );
        }
        for bad in ["", "health", "http://a/", "/a b", "/a#b", "/a\r\nX: y"] {
            assert!(
                HealthPath::from_text(bad).is_err(),
                "{bad:?} was taken for a path"
            );
        }
    }
}
