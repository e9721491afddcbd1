//! Suggestions: the valid name nearest to one that is not.

use std::fmt;

/// Longest name that is compared: real names are shorter, and the comparison takes time quadratic in the length.
const COMPARED_MAX: usize = 64;

/// What to write instead of a name that is not known. Displayed as the end of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// One name is so near that it was probably meant.
    Nearest(String),
    /// None is; these are the names there are.
    OneOf {
        /// What has these names, such as `[peer] takes`.
        whose: String,
        /// The names.
        names: Vec<String>,
    },
    /// Nothing helpful to say.
    None,
}

impl Hint {
    /// The nearest name if there is one.
    pub(super) fn nearest_only(nearest: Option<&str>) -> Self {
        nearest.map_or(Self::None, |name| Self::Nearest(name.to_owned()))
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearest(name) => write!(f, "; did you mean \"{name}\"?"),
            Self::OneOf { whose, names } => write!(f, "; {whose} {}", names.join(", ")),
            Self::None => Ok(()),
        }
    }
}

/// The candidate that `wanted` is probably a misspelling of: the one with the fewest insertions, deletions,
/// substitutions and swaps of neighbours (Damerau-Levenshtein), if these are at most a third of its letters or one.
pub(crate) fn nearest<'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if wanted.len() > COMPARED_MAX {
        return None;
    }
    let wanted = wanted.to_lowercase();
    let distances = candidates.into_iter().map(|candidate| {
        (
            strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()),
            candidate,
        )
    });
    distances
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_finds_the_name_that_was_meant() {
        let names = ["listen", "advertise", "seeds"];
        assert_eq!(nearest("advertize", names), Some("advertise"));
        assert_eq!(nearest("sedes", names), Some("seeds"));
        assert_eq!(nearest("LISTEN", names), Some("listen"));
    }

    #[test]
    fn a_name_unlike_all_others_finds_none() {
        assert_eq!(nearest("colour", ["listen", "advertise", "seeds"]), None);
        assert_eq!(nearest("", ["listen"]), None);
    }

    #[test]
    fn a_very_long_name_is_not_compared() {
        assert_eq!(nearest(&"listen".repeat(1000), ["listen"]), None);
    }
}
