//! What a hook is handed: the JSON of a record, and a name for the delivery.

use crate::events::record::Record;

/// An event as it goes to a hook.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    /// `NODE/NUMBER`, by the node that recorded it. The same for every try.
    pub(super) event_id: String,
    /// The record as JSON.
    pub(super) body: Vec<u8>,
}

impl Payload {
    /// Of a record.
    ///
    /// # Errors
    /// If its time has no text, being after the year 9999.
    pub(super) fn of(record: &Record) -> Result<Payload, serde_json::Error> {
        Ok(Payload {
            event_id: format!("{}/{}", record.seen_by, record.id),
            body: serde_json::to_vec(record)?,
        })
    }
}
