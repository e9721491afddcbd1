//! Parts from which suites, benches and `scripts/cluster` are built.
//!
//! [`binaries`] finds what cargo built, [`layout`] says where the ports and
//! files of a node are, [`process`] starts, signals and measures processes by
//! an identity that a recycled pid cannot fake, [`node`] runs one node as
//! children of a test, [`cluster`] drives `scripts/cluster` as a user would,
//! [`network`] makes hosts of their own and cuts them off from each other, [`disk`]
//! makes disks that get full, fail, or kill who writes to them.
//! [`http`] is the client, [`load`] the constant stream of requests, [`wait`]
//! the only way to wait: for a condition, up to a limit, with a last reason.
//!
//! It knows the product by its files, ports, commands and HTTP answers alone,
//! and links none of our crates. Everything fails with an error that says what
//! was attempted; nothing here panics on what a process or peer answers.

pub mod binaries;
pub mod cluster;
pub mod disk;
pub mod http;
pub mod layout;
pub mod load;
pub mod network;
pub mod node;
pub mod ports;
pub mod process;
pub mod wait;
