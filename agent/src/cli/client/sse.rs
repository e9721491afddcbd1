//! Server-sent events: bytes in, events out (WHATWG HTML, section 9.2.6 "Interpreting an event stream").
//!
//! Pure: it does no reading of its own, so that it can be fed any cut of any stream. Lines and events have a size
//! limit, above which the stream is given up.

use std::collections::VecDeque;

/// Largest line and largest event, in bytes: a document of 1 MiB, every byte of it escaped, and more.
const EVENT_MAX: usize = 8 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Event {
    /// What it says.
    pub(in crate::cli) data: String,
    /// Where to continue after it: the id that was last sent, with this event or before it.
    pub(in crate::cli) id: Option<String>,
    /// Its name, where it has one.
    pub(in crate::cli) kind: Option<String>,
}

impl Event {
    /// Whether it is no change, but what stands between the documents and the changes of a watch.
    pub(in crate::cli) fn ends_snapshot(&self) -> bool {
        self.kind.as_deref() == Some("snapshot-end")
    }
}

/// Why a stream of events cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A line or an event without an end.
    #[error("an event is larger than {} MiB", EVENT_MAX >> 20)]
    TooLarge,
    /// Not text.
    #[error("a line of the stream is not UTF-8")]
    NotUtf8,
}

/// Takes a stream apart.
#[derive(Debug, Default)]
pub(in crate::cli) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return, so that a line feed now belongs to it.
    after_return: bool,
    /// The first line is past, before which a byte order mark may stand.
    after_first_line: bool,
    data: Option<String>,
    /// The id that the event in progress will leave behind.
    id: Option<String>,
    last_id: Option<String>,
    kind: Option<String>,
    events: VecDeque<Event>,
}

impl Parser {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// If the stream cannot be read on. Events that were complete before can still be taken.
    pub(in crate::cli) fn push(&mut self, bytes: &[u8]) -> Result<(), EventError> {
        for &byte in bytes {
            let ends_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if ends_return => {}
                b'\n' | b'\r' => self.end_line()?,
                _ if self.line.len() >= EVENT_MAX => return Err(EventError::TooLarge),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    /// The next complete event.
    pub(in crate::cli) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether an event is ready.
    pub(in crate::cli) fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// Where to continue: the id that was last sent, with an event or alone.
    pub(in crate::cli) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    fn end_line(&mut self) -> Result<(), EventError> {
        let bytes = std::mem::take(&mut self.line);
        let line = std::str::from_utf8(&bytes).map_err(|_| EventError::NotUtf8)?;
        let is_first = !std::mem::replace(&mut self.after_first_line, true);
        let line = if is_first {
            line.trim_start_matches('\u{feff}')
        } else {
            line
        };
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                let data = self.data.get_or_insert_default();
                if data.len() + value.len() > EVENT_MAX {
                    return Err(EventError::TooLarge);
                }
                data.push_str(value);
                data.push('\n');
            }
            "event" => self.kind = Some(value.to_owned()).filter(|kind| !kind.is_empty()),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments, and fields that have no meaning here.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        if let Some(id) = self.id.take() {
            self.last_id = Some(id);
        }
        let kind = self.kind.take();
        if let Some(mut data) = self.data.take() {
            data.pop();
            self.events.push_back(Event {
                data,
                id: self.last_id.clone(),
                kind,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The events of a stream that comes in the given pieces, and the id it ends with.
    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
        let mut parser = Parser::default();
        for piece in pieces {
            parser.push(piece).unwrap();
        }
        let events = std::iter::from_fn(|| parser.next_event())
            .map(|event| event.data)
            .collect();
        (events, parser.last_id().map(str::to_owned))
    }

    #[test]
    fn data_lines_are_joined_and_comments_are_skipped() {
        let stream = b"\xef\xbb\xbf: hello\nid: 7\ndata: {\"a\":\ndata:1}\n\n: alive\n\ndata\n\n";
        assert_eq!(
            parse([&stream[..]]),
            (vec!["{\"a\":\n1}".into(), String::new()], Some("7".into()))
        );
    }

    #[test]
    fn an_id_without_data_moves_the_cursor_and_makes_no_event() {
        assert_eq!(parse([&b"id: 41\n\n"[..]]), (Vec::new(), Some("41".into())));
    }

    #[test]
    fn an_event_that_was_cut_off_is_not_delivered_and_leaves_no_id() {
        assert_eq!(
            parse([&b"id: 1\ndata: x\n\nid: 2\ndata: y\n"[..]]),
            (vec!["x".into()], Some("1".into()))
        );
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; EVENT_MAX]), Ok(()));
        assert_eq!(parser.push(b"x"), Err(EventError::TooLarge));
    }

    #[test]
    fn an_event_without_an_end_is_given_up() {
        let mut parser = Parser::default();
        let line = [
            b"data: ".to_vec(),
            vec![b'x'; EVENT_MAX / 2],
            b"\n".to_vec(),
        ]
        .concat();
        assert_eq!(parser.push(&line), Ok(()));
        assert_eq!(parser.push(&line), Err(EventError::TooLarge));
    }

    proptest! {
        #[test]
        fn the_cut_of_a_stream_does_not_matter(
            lines in proptest::collection::vec("(id: ?[0-9a-z]{0,3}|data:? ?[a-z:]{0,5}|:x|)(\r\n|\n|\r)", 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let stream = lines.concat();
            let (left, right) = stream.as_bytes().split_at(cut.index(stream.len() + 1));
            prop_assert_eq!(parse([stream.as_bytes()]), parse([left, right]));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut parser = Parser::default();
            let _ = parser.push(&bytes);
            while parser.next_event().is_some() {}
        }
    }
}
