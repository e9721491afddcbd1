//! JSON text, taken apart no further than a question needs.
//!
//! What a client wrote is kept as it was written: numbers keep their digits and
//! objects their order. So objects are opened one level at a time ([`Members`]),
//! and a tree is built only to compare two values or to order one.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// How deep lists and objects may nest: as deep as `serde_json` reads.
pub(super) const DEPTH_MAX: u8 = 127;

/// Whether `text` is one JSON value in which lists and objects nest at most `depth`
/// deep.
///
/// It visits every value, because skipping over text (as [`RawValue`] does) lets
/// through what cannot be read afterwards: half of a surrogate pair, a number out
/// of range, lists nested a million deep.
pub(super) fn check(text: &[u8], depth: u8) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    Sound { depth }.deserialize(&mut reader)?;
    reader.end()
}

/// Reads a value and keeps nothing of it.
#[derive(Clone, Copy)]
struct Sound {
    depth: u8,
}

impl Sound {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth }),
            None => Err(E::custom("lists and objects nest too deep")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while list.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        // A name is a string, which takes no depth.
        while object.next_key_seed(Sound { depth: 0 })?.is_some() {
            object.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// The members of an object, each value as its text, in the order of the text.
///
/// Where a name comes twice, the last value counts, in the place of the first.
#[derive(Default)]
pub(super) struct Members<'a> {
    /// `None` where a member was removed.
    list: Vec<(String, Option<Text<'a>>)>,
    places: HashMap<String, usize>,
}

type Text<'a> = Cow<'a, str>;

impl<'a> Members<'a> {
    /// Opens an object; `None` where the text is none.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let members = reader.deserialize_map(ReadMembers).ok()?;
        reader.end().ok()?;
        Some(members)
    }

    /// The same for bytes that may not even be text.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        Self::parse(std::str::from_utf8(bytes).ok()?)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let place = *self.places.get(name)?;
        self.list.get(place)?.1.as_deref()
    }

    /// Gives a member its text: in its place if it has one, else at the end.
    pub(super) fn set(&mut self, name: &str, text: impl Into<Text<'a>>) {
        let next = self.list.len();
        let place = *self.places.entry(name.to_owned()).or_insert(next);
        match self.list.get_mut(place) {
            Some((_, slot)) => *slot = Some(text.into()),
            None => self.list.push((name.to_owned(), Some(text.into()))),
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(place) = self.places.remove(name) {
            self.list[place].1 = None;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list
            .iter()
            .filter_map(|(name, text)| Some((name.as_str(), text.as_deref()?)))
    }

    /// The object as text.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::from("{");
        for (name, value) in self.iter() {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&Value::from(name).to_string());
            text.push(':');
            text.push_str(value);
        }
        text.push('}');
        text
    }
}

struct ReadMembers;

impl<'de> Visitor<'de> for ReadMembers {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some((name, value)) = object.next_entry::<String, &'de RawValue>()? {
            members.set(&name, value.get());
        }
        Ok(members)
    }
}

/// What `patch` makes of `target` (RFC 7396). Both are texts that were checked, which
/// bounds how deep this goes.
pub(super) fn merge_patch(target: Option<&str>, patch: &str) -> String {
    let Some(changes) = Members::parse(patch) else {
        return patch.trim().to_owned();
    };
    let mut members = target.and_then(Members::parse).unwrap_or_default();
    for (name, change) in changes.iter() {
        if change == "null" {
            members.remove(name);
        } else {
            let merged = merge_patch(members.get(name), change);
            members.set(name, merged);
        }
    }
    members.to_text()
}

/// Whether two texts are the same JSON value, however they are written.
pub(super) fn same(a: &str, b: &str) -> bool {
    let read = |text| serde_json::from_str::<Value>(text);
    a == b || matches!((read(a), read(b)), (Ok(a), Ok(b)) if a == b)
}

/// The one way to write a value down: names in order, no spaces.
pub(super) fn canonical(mut value: Value) -> Bytes {
    // Objects are ordered by themselves, unless some crate of the build asked
    // serde_json to keep their order.
    value.sort_all_objects();
    value.to_string().into()
}

/// The integer that the text is, if it is one.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    serde_json::from_slice(text).ok()
}

/// What sort of value a text is, to tell a user.
pub(super) fn sort_of(text: &[u8]) -> &'static str {
    match text.trim_ascii().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}
