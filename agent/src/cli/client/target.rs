//! Request targets: paths and queries of the API, with everything escaped that is not plain.

/// The path and query of a request (RFC 9112, section 3.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Target {
    text: String,
    has_query: bool,
}

impl Target {
    /// A path of the API such as `/v1/members`, known to need no escapes.
    pub(in crate::cli) fn new(path: &'static str) -> Self {
        Self {
            text: path.to_owned(),
            has_query: false,
        }
    }

    /// The same with one more segment, whatever characters it has.
    pub(in crate::cli) fn segment(mut self, segment: &str) -> Self {
        self.text.push('/');
        match segment {
            // Escaped in full, because a server may take a plain dot segment for a step up or none (RFC 3986, 5.2.4).
            "." => self.text.push_str("%2E"),
            ".." => self.text.push_str("%2E%2E"),
            segment => escape_into(&mut self.text, segment),
        }
        self
    }

    /// The same with a parameter.
    pub(in crate::cli) fn parameter(mut self, name: &'static str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.text.push_str(name);
        self.text.push('=');
        escape_into(&mut self.text, value);
        self.has_query = true;
        self
    }

    /// The same with a parameter if there is a value.
    pub(in crate::cli) fn optional(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.parameter(name, value),
            None => self,
        }
    }

    /// The target as it is sent.
    pub(in crate::cli) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Appends `text`, every byte escaped that is not unreserved (RFC 3986, section 2.3).
fn escape_into(target: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            target.push(char::from(byte));
        } else {
            target.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_escaped_so_that_they_stay_one_segment() {
        let target = Target::new("/v1/data")
            .segment("users")
            .segment("a/b c?#%梁");
        assert_eq!(
            target.as_str(),
            "/v1/data/users/a%2Fb%20c%3F%23%25%E6%A2%81"
        );
        assert_eq!(
            Target::new("/v1/data").segment("..").as_str(),
            "/v1/data/%2E%2E"
        );
    }

    #[test]
    fn parameters_are_escaped_and_joined() {
        let target = Target::new("/v1/watch")
            .parameter("collection", "a&b")
            .optional("from", None);
        assert_eq!(
            target.optional("prefix", Some("x=")).as_str(),
            "/v1/watch?collection=a%26b&prefix=x%3D"
        );
    }
}
