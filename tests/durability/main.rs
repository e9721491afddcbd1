//! What was acknowledged stays: real processes that are killed, disks that fill, fail
//! and hang.
//!
//! Writers ([`writers`]) put documents under keys of their own as fast as they are
//! answered, and note what was acknowledged, what was refused, and of what nobody
//! knows. Whatever is done to the agents ([`world`]) meanwhile, in the end everything
//! acknowledged must be there, everything refused must not, and nothing else may be.
//!
//! `kill -9` keeps what the kernel has in memory, so this shows safety against the death
//! of a process; the death of a machine is what the tests of the store simulate. That the
//! journal is synced before an answer goes out is seen in the trace of an agent's system
//! calls ([`acknowledged`]).
//!
//! Needs root for small disks, and strace for faults at syncs. Where one is missing a
//! test says `skipped` with the reason; where the variable `CI` is set it fails instead.
//! `CRASH_KILLS` sets how often agents are killed, `CRASH_SEED` repeats the moments.

mod acknowledged;
mod failing_disk;
mod full_disk;
mod kills;
mod readers;
mod stuck_disk;
mod syncs;
mod world;
mod writers;
