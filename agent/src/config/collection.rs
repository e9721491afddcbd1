//! Collections in the configuration: what may be the name of one, and how its table is called.

use basic_sync::model::document::Merge;
use basic_sync::model::{Collection, InvalidName};

use crate::records::RESERVED_PREFIX;

use super::printable::Printable;
use super::schema::COLLECTIONS;
use super::suggestion::Hint;
use super::value::Choice;

/// How many collections can have a policy of their own. Others need none: the defaults hold for them.
pub(super) const COLLECTIONS_MAX: usize = 1000;

/// Longest name that is shown without quotation marks, in bytes: as long as a good one may be.
const HEADER_BARE_MAX: usize = 64;

/// Why a collection cannot be configured like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectionFault {
    /// No collection can have this name.
    #[error("{}{hint}", Printable::plain(&.reason.to_string()))]
    Name {
        /// The rule that it breaks.
        reason: InvalidName,
        /// What might have been meant.
        hint: Hint,
    },
    /// The collection is one of the agents' own, or could become one.
    #[error(
        "{} belongs to the agents, and so does every name that begins with \"{RESERVED_PREFIX}\"; choose another name",
        Printable::quoted(.name)
    )]
    Reserved {
        /// Its name.
        name: String,
    },
    /// A variable or a flag, which cannot tell where a name ends that may hold dots and underscores.
    #[error("collections are set in the configuration file only; write [{COLLECTIONS}.NAME] there")]
    FileOnly,
}

/// Whether a collection may be configured under this name.
///
/// # Errors
/// [`CollectionFault::Name`] or [`CollectionFault::Reserved`].
pub(super) fn check_name(name: &str) -> Result<(), CollectionFault> {
    if name.starts_with(RESERVED_PREFIX) {
        return Err(CollectionFault::Reserved {
            name: name.to_owned(),
        });
    }
    let Err(reason) = Collection::new(name) else {
        return Ok(());
    };
    let lower_case = name.to_ascii_lowercase();
    let is_meant = lower_case != name && check_name(&lower_case).is_ok();
    let nearest = is_meant.then_some(lower_case.as_str());
    Err(CollectionFault::Name {
        reason,
        hint: Hint::nearest_only(nearest),
    })
}

/// The header of a collection's table as a file has it: `[collections.users]`, `[collections."a.b"]`.
pub(super) fn header(name: &str) -> String {
    // A key of TOML can do without quotation marks if it is made of these. A bad name may be long, and is shortened.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if (1..=HEADER_BARE_MAX).contains(&name.len()) && name.chars().all(is_plain) {
        format!("[{COLLECTIONS}.{name}]")
    } else {
        format!("[{COLLECTIONS}.{}]", Printable::quoted(name))
    }
}

impl Choice for Merge {
    const EXPECTED: &'static str = "\"lww\", \"fields\", \"counter\" or \"set\"";
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("lww", Self::Lww),
        ("fields", Self::Fields),
        ("counter", Self::Counter),
        ("set", Self::Set),
    ];
}
