//! The two sides that a rollback compares: the documents of the backup, and those that the agent has.

use std::time::{SystemTime, UNIX_EPOCH};

use basic_sync::backup::{Scratch, ScratchError};
use basic_sync::model::{Change, Collection};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::client::{Client, ClientError, Target};

/// Documents read at once.
const PAGE: usize = 200;

/// A page of what the agent has.
#[derive(Debug, Deserialize)]
struct DocumentPage {
    items: Vec<Document>,
    next: Option<String>,
}

/// A document that the agent has.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub(super) key: String,
    pub(super) value: Box<RawValue>,
}

/// The documents of the backup, one by one.
pub(super) struct Then<'s> {
    scratch: &'s Scratch,
    collection: &'s Collection,
    ready: std::vec::IntoIter<Change>,
    after: Option<String>,
    more: bool,
}

impl<'s> Then<'s> {
    pub(super) fn new(scratch: &'s Scratch, collection: &'s Collection) -> Self {
        Self {
            scratch,
            collection,
            ready: Vec::new().into_iter(),
            after: None,
            more: true,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Change>, ScratchError> {
        if let Some(change) = self.ready.next() {
            return Ok(Some(change));
        }
        if !self.more {
            return Ok(None);
        }
        let after = self.after.as_deref();
        let page = self
            .scratch
            .documents(self.collection, after, PAGE, now_ms())?;
        let last = page.documents.last().map(|last| last.key.name().to_owned());
        self.more = page.more && last.is_some();
        self.after = last;
        self.ready = page.documents.into_iter();
        Ok(self.ready.next())
    }
}

/// The documents of the agent, one by one.
pub(super) struct Now<'c> {
    client: &'c Client,
    collection: &'c Collection,
    ready: std::vec::IntoIter<Document>,
    after: Option<String>,
    more: bool,
}

impl<'c> Now<'c> {
    pub(super) fn new(client: &'c Client, collection: &'c Collection) -> Self {
        Self {
            client,
            collection,
            ready: Vec::new().into_iter(),
            after: None,
            more: true,
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Document>, ClientError> {
        if let Some(document) = self.ready.next() {
            return Ok(Some(document));
        }
        if !self.more {
            return Ok(None);
        }
        let target = Target::new("/v1/data")
            .segment(self.collection.as_str())
            .optional("after", self.after.as_deref())
            .parameter("limit", &PAGE.to_string());
        let page: DocumentPage = self.client.get(target).await?.json()?;
        self.more = page.next.is_some() && page.next != self.after && !page.items.is_empty();
        self.after = page.next;
        self.ready = page.items.into_iter();
        Ok(self.ready.next())
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
