//! Records that are written together.

use std::time::Duration;

use basic_sync::model::InvalidName;
use basic_sync::model::document::Action;
use basic_sync::protocol::{Condition, Operation};
use bytes::Bytes;
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
        let operation = Operation::new(system.key(key)?, encode(system, key, value)?);
        self.operations.push(operation);
        Ok(self)
    }

    /// The same, which writes this record too; nothing of the batch is done where the condition on it does not hold.
    ///
    /// # Errors
    /// [`RecordError::Key`], [`RecordError::Encode`].
    pub fn put_if<T: Serialize>(
        mut self,
        system: System,
        key: &str,
        value: &T,
        condition: Condition,
    ) -> Result<Self, RecordError> {
        let mut operation = Operation::new(system.key(key)?, encode(system, key, value)?);
        operation.condition = condition;
        self.operations.push(operation);
        Ok(self)
    }

    /// The same, which writes this record too, to be gone after `ttl`.
    ///
    /// # Errors
    /// [`RecordError::Key`], [`RecordError::Encode`].
    pub fn put_for<T: Serialize>(
        mut self,
        system: System,
        key: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<Self, RecordError> {
        let mut operation = Operation::new(system.key(key)?, encode(system, key, value)?);
        operation.ttl = Some(ttl);
        self.operations.push(operation);
        Ok(self)
    }

    /// The same, which keeps this JSON text too, as it is.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn put_text(mut self, system: System, key: &str, text: Bytes) -> Result<Self, InvalidName> {
        let operation = Operation::new(system.key(key)?, Action::Put(text));
        self.operations.push(operation);
        Ok(self)
    }

    /// The same, which writes a document of clients too.
    pub fn document(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
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

fn encode<T: Serialize>(system: System, key: &str, value: &T) -> Result<Action, RecordError> {
    let document = serde_json::to_vec(value).map_err(|source| RecordError::Encode {
        collection: system.name(),
        key: key.to_owned(),
        source,
    })?;
    Ok(Action::Put(document.into()))
}
