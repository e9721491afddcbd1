//! The kinds of values: how each is written in a file, a variable or a flag, and why one may be refused.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use toml_edit::Value;

use super::address::UrlFault;
use super::printable::Printable;
use super::schema::FlagShape;
use super::suggestion::{self, Hint};

/// A value as it was written, before its key says what it ought to be.
#[derive(Debug, Clone)]
pub(crate) enum Raw {
    /// From a file, where TOML tells texts, numbers and lists apart.
    Toml(Value),
    /// From a variable or a flag, where everything is text. Lists are separated by commas.
    Text(String),
}

/// A type that a key can have.
pub(super) trait Setting: Clone + PartialOrd + Send + Sync + 'static {
    /// What a person is asked for, as in "expected …".
    const EXPECTED: &'static str;
    /// How a flag of this kind is written.
    const FLAG_SHAPE: FlagShape = FlagShape::One;

    /// Reads the text of a variable, a flag or a TOML string.
    fn from_text(text: &str) -> Result<Self, ValueError>;

    /// Writes the text that [`Setting::from_text`] reads.
    fn to_text(&self) -> String;

    /// Reads a TOML value; kinds that TOML has no type of its own for are strings.
    fn from_toml(value: &Value) -> Result<Self, ValueError> {
        match value {
            Value::String(text) => Self::from_text(text.value()),
            other => Err(ValueError::wrong_type::<Self>(other)),
        }
    }

    /// Writes the value that [`Setting::from_toml`] reads.
    fn to_toml(&self) -> Value {
        Value::from(self.to_text())
    }
}

/// A type with a few named values.
pub(super) trait Choice: Copy + PartialOrd + Send + Sync + 'static {
    /// What a person is asked for, as in "expected …".
    const EXPECTED: &'static str;
    /// The values with their names.
    const CHOICES: &'static [(&'static str, Self)];
}

/// Why a value cannot be used. The configuration is refused; nothing has been changed or started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// TOML has another type there.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What the key takes.
        expected: &'static str,
        /// What was found, with its article.
        found: &'static str,
    },
    /// The type is right, and the text means nothing.
    #[error("{} is not {expected}", Printable::quoted(.value))]
    Malformed {
        /// What was found.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// A number, duration or size beyond its limits.
    #[error("{value} is out of range: from {min} to {max}")]
    OutOfRange {
        /// What was found.
        value: String,
        /// The smallest value allowed.
        min: String,
        /// The largest value allowed.
        max: String,
    },
    /// Not one of the named values.
    #[error("{} is not {expected}{hint}", Printable::quoted(.value))]
    NotAChoice {
        /// What was found.
        value: String,
        /// What the key takes.
        expected: &'static str,
        /// The nearest value, or all of them.
        hint: Hint,
    },
    /// A list or table with too many entries.
    #[error("{count} entries are more than the {max} allowed")]
    TooMany {
        /// How many were found.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// A table whose entries together are too long.
    #[error("its entries take {len} bytes together, {max} are allowed")]
    TooLong {
        /// How many bytes they take.
        len: usize,
        /// How many are allowed.
        max: usize,
    },
    /// No URL of host and port.
    #[error("{} {fault}", Printable::quoted(.value))]
    Url {
        /// What was found.
        value: String,
        /// What is wrong with it.
        fault: UrlFault,
    },
}

impl ValueError {
    pub(super) fn wrong_type<T: Setting>(found: &Value) -> Self {
        Self::WrongType {
            expected: T::EXPECTED,
            found: type_name(found),
        }
    }

    pub(super) fn malformed<T: Setting>(value: &str) -> Self {
        Self::Malformed {
            value: value.to_owned(),
            expected: T::EXPECTED,
        }
    }
}

/// What kind of TOML value this is, with its article.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::InlineTable(_) => "a table",
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";
    const FLAG_SHAPE: FlagShape = FlagShape::Switch;

    fn from_text(text: &str) -> Result<Self, ValueError> {
        text.parse()
            .map_err(|_| ValueError::malformed::<Self>(text))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_toml(value: &Value) -> Result<Self, ValueError> {
        value
            .as_bool()
            .ok_or_else(|| ValueError::wrong_type::<Self>(value))
    }

    fn to_toml(&self) -> Value {
        Value::from(*self)
    }
}

impl Setting for u16 {
    const EXPECTED: &'static str = "an integer from 0 to 65535";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        text.parse()
            .map_err(|_| ValueError::malformed::<Self>(text))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_toml(value: &Value) -> Result<Self, ValueError> {
        let integer = value
            .as_integer()
            .ok_or_else(|| ValueError::wrong_type::<Self>(value))?;
        Self::try_from(integer).map_err(|_| ValueError::OutOfRange {
            value: integer.to_string(),
            min: Self::MIN.to_string(),
            max: Self::MAX.to_string(),
        })
    }

    fn to_toml(&self) -> Value {
        Value::from(i64::from(*self))
    }
}

impl Setting for f64 {
    const EXPECTED: &'static str = "a number such as 8.0";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        text.parse()
            .map_err(|_| ValueError::malformed::<Self>(text))
    }

    fn to_text(&self) -> String {
        // Debug writes "8.0" where Display writes "8", and TOML tells them apart.
        format!("{self:?}")
    }

    fn from_toml(value: &Value) -> Result<Self, ValueError> {
        match value {
            Value::Float(float) => Ok(*float.value()),
            // Through text, because an integer of TOML has more digits than a float holds: it is rounded, as a float
            // with as many digits would be.
            Value::Integer(integer) => Self::from_text(&integer.value().to_string()),
            other => Err(ValueError::wrong_type::<Self>(other)),
        }
    }

    fn to_toml(&self) -> Value {
        Value::from(*self)
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str = "a duration such as \"200ms\" or \"1m 30s\"";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        crate::durations::parse_duration(text).map_err(|_| ValueError::malformed::<Self>(text))
    }

    fn to_text(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Setting for ByteSize {
    const EXPECTED: &'static str = "a size such as \"64MiB\"";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        text.parse()
            .map_err(|_| ValueError::malformed::<Self>(text))
    }

    fn to_text(&self) -> String {
        // In the largest unit that leaves no fraction, because Display rounds.
        const UNITS: [(u64, &str); 4] = [
            (bytesize::TIB, "TiB"),
            (bytesize::GIB, "GiB"),
            (bytesize::MIB, "MiB"),
            (bytesize::KIB, "KiB"),
        ];
        let bytes = self.as_u64();
        let exact = UNITS
            .iter()
            .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
        exact.map_or_else(
            || format!("{bytes}B"),
            |(unit, name)| format!("{}{name}", bytes / unit),
        )
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str =
        "an address and port such as \"127.0.0.1:9400\" or \"[::1]:9400\"";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        text.parse()
            .map_err(|_| ValueError::malformed::<Self>(text))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        // An empty path means the working directory in some calls and fails in others; a NUL ends a path unseen.
        if text.is_empty() || text.contains('\0') {
            return Err(ValueError::malformed::<Self>(text));
        }
        Ok(Self::from(text))
    }

    fn to_text(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

impl<T: Choice> Setting for T {
    const EXPECTED: &'static str = <T as Choice>::EXPECTED;

    fn from_text(text: &str) -> Result<Self, ValueError> {
        let found = T::CHOICES.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| ValueError::NotAChoice {
                value: text.to_owned(),
                expected: <T as Choice>::EXPECTED,
                hint: Hint::nearest_only(suggestion::nearest(text, T::CHOICES.iter().map(|c| c.0))),
            })
    }

    fn to_text(&self) -> String {
        let found = T::CHOICES.iter().find(|(_, value)| value == self);
        found
            .map(|(name, _)| (*name).to_owned())
            .expect("every value of a choice has a name")
    }
}
