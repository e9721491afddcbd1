//! Records that are written together.

use basic_sync::model::InvalidName;
use basic_sync::model::document::Action;
use basic_sync::protocol::Operation;
use serde::Serialize;

use super::{RecordError, System};

/// Records to write and to delete, all or none; see [`Records::write`](super::Records::write).
#[derive(Debug, Default)]
pub struct Batch {
    operations: Vec<Operation>,
}

impl Batch {
    /// The same, which writes this record too.
    ///
    /// # Errors
    /// [`RecordError::Key`], [`RecordError::Encode`].
    pub fn put<T: Serialize>(
        mut self,
        system: System,
        key: &str,
        value: &T,
    ) -> Result<Self, RecordError> {
        let document = serde_json::to_vec(value).map_err(|source| RecordError::Encode {
            collection: system.name(),
            key: key.to_owned(),
            source,
        })?;
        let action = Action::Put(document.into());
        self.operations
            .push(Operation::new(system.key(key)?, action));
        Ok(self)
    }

    /// The same, which deletes this record too; it must be there.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn delete(mut self, system: System, key: &str) -> Result<Self, InvalidName> {
        self.operations
            .push(Operation::new(system.key(key)?, Action::Delete));
        Ok(self)
    }

    pub(super) fn into_operations(self) -> Vec<Operation> {
        self.operations
    }
}
