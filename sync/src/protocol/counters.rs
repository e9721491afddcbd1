//! What a replica has done, in numbers.

use std::ops::Add;

/// Writes [`Counters`] down once for all that go through them: adding a line is enough for a
/// counter to be in the API, in the metrics and in sums.
macro_rules! counters {
    ($($(#[doc = $text:literal])+ $name:ident,)+) => {
        /// What a replica has done since it was opened.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counters {
            $($(#[doc = $text])+ pub $name: u64,)+
        }

        impl Counters {
            /// All of them: name, what it counts in a line of text, and how many. The names are
            /// those of the API and of the metrics, and stay.
            pub fn list(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($text),+).trim_ascii_start(), self.$name)),+]
                    .into_iter()
            }
        }

        impl Add for Counters {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name + other.$name,)+ }
            }
        }
    };
}

counters! {
    /// Operations written by clients.
    written,
    /// Changes of others taken in.
    taken_in,
    /// Changes of others that a newer version had already superseded.
    superseded,
    /// Changes of others that had come before.
    repeated,
    /// Pulls begun.
    pulls_begun,
    /// Pulls brought to their end.
    pulls_completed,
    /// Pulls given up.
    pulls_abandoned,
    /// Pulls of others served to their end.
    pulls_served,
    /// Pulls of others turned away.
    pulls_refused,
    /// Changes of others taken in with a date too far ahead for this replica's clock to
    /// take it over.
    dated_ahead,
    /// Of the changes dated far ahead, those whose writer is on record no longer, because its
    /// dates have come.
    dates_come,
    /// Documents whose expiry this replica's watchers were told of.
    expired,
    /// New epochs begun: one with the first write of each life.
    epochs_begun,
    /// Snapshots taken over.
    snapshots_taken,
    /// Snapshots served to their end.
    snapshots_served,
    /// Documents that let go of what only remembered a deletion.
    collected,
    /// Expired documents that this replica deleted for good.
    buried,
    /// Replicas that this one fenced.
    fencings,
    /// How often this replica found itself fenced, and went on as another.
    fenced,
    /// Writes that were taken out and kept aside.
    exported,
    /// Pushes and pulls that were not taken in because their sender is not trusted.
    untrusted,
    /// Changes of others passed on along the tree.
    forwarded,
    /// Links made lazy because a push on them came later than by another.
    pruned,
    /// Links made eager because a write did not come, or another link went down.
    grafted,
    /// Calls of the roll, to learn who has writes beyond the neighbours.
    roll_calls,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_listed_by_its_name_with_its_whole_text_and_added_up() {
        let one = Counters {
            written: 3,
            dated_ahead: 4,
            ..Counters::default()
        };
        let sum = one + one;
        let told: Vec<_> = sum.list().filter(|(_, _, count)| *count > 0).collect();
        let ahead = "Changes of others taken in with a date too far ahead for this replica's clock to \
                     take it over.";
        assert_eq!(
            told,
            [
                ("written", "Operations written by clients.", 6),
                ("dated_ahead", ahead, 8),
            ]
        );
    }
}
