//! What the larger tests of this crate stand on, and those tests.
//!
//! | module | what it owns |
//! |---|---|
//! | `network` | a network in memory that loses and delays, for many nodes on a paused clock |
//! | `swarm` | many nodes on that network, in one thread |
//! | `loopback` | nodes with threads and sockets of their own, as the agent runs them |
//! | `memory` | what this process takes of the machine's memory |
//! | `scale` | the tests of a hundred nodes |
//! | `attacks` | the tests of what must bounce off the gossip port |

mod attacks;
pub(crate) mod loopback;
mod memory;
mod network;
mod scale;
mod swarm;
