//! Operations where each top-level field is a part of its own.
//!
//! A put writes only what differs from what its writer saw, so that two puts at the
//! same time that change different fields both last.

use bytes::Bytes;

use super::super::json::{self, Members};
use super::super::{Document, FIELD_BYTES_MAX, Kind, Part, PartWrite};
use super::{Context, PlanError, patched, whole, write};

pub(super) fn put(
    body: &Bytes,
    current: &Document,
    context: Context,
) -> Result<Vec<PartWrite>, PlanError> {
    let wanted = match Members::of(body) {
        Some(wanted) if takes_fields(current, context) => wanted,
        _ => return Ok(whole(Some(body.clone()), current)),
    };
    let value = current.value(context.now_ms).unwrap_or_default();
    let seen = Members::of(&value).unwrap_or_default();
    let mut parts = Vec::new();
    for (name, text) in wanted.iter() {
        if !seen.get(name).is_some_and(|old| json::same(old, text)) {
            parts.push(field(name, Some(text)));
        }
    }
    for (name, _) in seen.iter() {
        if wanted.get(name).is_none() {
            parts.push(field(name, None));
        }
    }
    finish(parts, &wanted, current, context)
}

pub(super) fn patch(
    body: &Bytes,
    current: &Document,
    context: Context,
) -> Result<Vec<PartWrite>, PlanError> {
    let changes = match Members::of(body) {
        Some(changes) if takes_fields(current, context) => changes,
        _ => {
            let result = patched(current, body, context.now_ms);
            return Ok(whole(Some(result), current));
        }
    };
    let value = current.value(context.now_ms).unwrap_or_default();
    let seen = Members::of(&value).unwrap_or_default();
    let mut parts = Vec::new();
    for (name, change) in changes.iter() {
        let merged = match change {
            "null" => None,
            _ => Some(json::merge_patch(seen.get(name), change)),
        };
        parts.push(field(name, merged.as_deref()));
    }
    finish(parts, &seen, current, context)
}

/// Whether fields can be laid over what is there. Over a counter or a set, and over
/// what has expired, the document is written as a whole.
fn takes_fields(current: &Document, context: Context) -> bool {
    current.kind() == Kind::Plain && !current.is_expired(context.now_ms)
}

fn finish(
    mut parts: Vec<PartWrite>,
    wanted: &Members<'_>,
    current: &Document,
    context: Context,
) -> Result<Vec<PartWrite>, PlanError> {
    if parts.is_empty() {
        parts = touch(wanted, current, context);
    }
    let longest = parts.iter().map(|write| match &write.part {
        Part::Field(name) => name.len(),
        _ => 0,
    });
    match longest.max() {
        Some(len) if len > FIELD_BYTES_MAX => Err(PlanError::FieldName(len)),
        _ => Ok(parts),
    }
}

/// What to write where nothing differs: as little as there is, since every part that
/// is written may win over somebody else's.
fn touch(wanted: &Members<'_>, current: &Document, context: Context) -> Vec<PartWrite> {
    if let Some((name, text)) = wanted.iter().next() {
        return vec![field(name, Some(text))];
    }
    let fields = current.writes().iter().flat_map(|write| &write.parts);
    let removed = fields
        .filter(|write| matches!(write.part, Part::Field(_)))
        .find(|write| write.value.is_none());
    match removed {
        // The document is `{}` because its fields were removed.
        Some(removed) if !current.is_tombstone(context.now_ms) => vec![removed.clone()],
        _ => whole(Some(Bytes::from_static(b"{}")), current),
    }
}

fn field(name: &str, text: Option<&str>) -> PartWrite {
    let text = text.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    write(Part::Field(name.into()), text)
}
