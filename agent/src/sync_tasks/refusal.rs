//! Why a task is not accepted.

use super::queue::Full;
use super::task::TaskError;
use crate::records::RecordError;

/// A task was not accepted. Nothing has changed, unless the error of the store says that this is not known.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// There is no such node.
    #[error("no node is called \"{node}\"{}; known are {}", did_you_mean(.nearest.as_deref()), .known.join(", "))]
    Unknown {
        /// What was asked for.
        node: String,
        /// What was probably meant.
        nearest: Option<String>,
        /// All there are.
        known: Vec<String>,
    },
    /// Another task has its id.
    #[error(
        "the task \"{0}\" exists and says something else; give a new task an id of its own, or none"
    )]
    OtherContents(String),
    /// The queue is full.
    #[error("the queue of this node is full: {0}; nothing was taken")]
    Full(#[from] Full),
    /// The collection holds no documents that can be put.
    #[error(
        "the collection \"{collection}\" merges as a {merge}, and takes no objects; give the data another data_type"
    )]
    Merge {
        /// Which.
        collection: String,
        /// Its rule.
        merge: &'static str,
    },
    /// The data is too large.
    #[error(
        "\"data\" has {bytes} bytes; at most {most} are allowed in the collection \"{collection}\""
    )]
    TooLarge {
        /// Where.
        collection: String,
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        most: u64,
    },
    /// The request makes no sense.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The system gave no random numbers for an id.
    #[error("the system gives no random numbers")]
    Random,
    /// It could not be stored, or it is not known whether it was.
    #[error(transparent)]
    Record(#[from] RecordError),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| {
        format!("; did you mean \"{nearest}\"?")
    })
}
