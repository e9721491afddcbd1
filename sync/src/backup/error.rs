//! Why bytes are not a backup that can be used.

use thiserror::Error;

/// The bytes are not a whole, undamaged backup. `at` counts bytes from the file's beginning.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum BackupError {
    /// Something else altogether.
    #[error("this is no backup of Basic Agent: it does not begin like one")]
    NotABackup,
    /// A later version wrote it.
    #[error(
        "this backup has format {found}, and this version reads formats up to 1; use the newer version"
    )]
    TooNew {
        /// Its format.
        found: u16,
    },
    /// The first bytes are not as they were written.
    #[error("the backup's header is damaged")]
    Header,
    /// It is sealed, and no key was given.
    #[error("the backup is encrypted; name the file of its key by --key-file")]
    KeyNeeded,
    /// A key was given, and it is not sealed: it may have been put in the place of one that is.
    #[error(
        "the backup is not encrypted, though a key was given; if that is as it should be, leave out --key-file"
    )]
    KeyNotNeeded,
    /// It is sealed with another key.
    #[error("the key does not fit: the backup was encrypted with another one")]
    WrongKey,
    /// Bytes are not as they were written.
    #[error("frame {frame} is damaged (it begins at byte {at})")]
    Damaged {
        /// Its number.
        frame: u32,
        /// Where it begins.
        at: u64,
    },
    /// The frames are not in their order, or one is missing.
    #[error("frame {frame} should be at byte {at}, and frame {found} is there")]
    Order {
        /// Its number.
        frame: u32,
        /// Which is there.
        found: u32,
        /// Where.
        at: u64,
    },
    /// It ends too early.
    #[error("the backup is cut off at byte {at}, in frame {frame}; its end is missing")]
    Cut {
        /// The frame that is not complete.
        frame: u32,
        /// Where it ends.
        at: u64,
    },
    /// Something follows its end.
    #[error("something follows the end of the backup, at byte {at}")]
    Trailing {
        /// Where.
        at: u64,
    },
    /// The checksum is right and the seal is not: somebody without the key has made it.
    #[error("frame {frame} was not written by who has the key (it begins at byte {at})")]
    Forged {
        /// Its number.
        frame: u32,
        /// Where it begins.
        at: u64,
    },
    /// The checksum is right and the content makes no sense: another program wrote it.
    #[error("frame {frame} makes no sense: {detail}")]
    Content {
        /// Its number.
        frame: u32,
        /// What is wrong.
        detail: String,
    },
    /// It has more frames than can be.
    #[error("the backup has too many frames")]
    TooLong,
}
