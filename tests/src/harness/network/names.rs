//! Names on our hosts: files of their own in the place of the machine's.
//!
//! `ip netns exec` lays every file of `/etc/netns/NAMESPACE` over the one of that
//! name in `/etc`, for the process that it starts. A process sees what is written
//! into the file later, and would not see a file that replaces it. Nobody answers
//! at the name server of a host, so what is not in its file is no name there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where `ip` looks for them.
const DIRECTORY: &str = "/etc/netns";
/// A line that is true on every host.
const LOCALHOST: &str = "127.0.0.1 localhost\n";
/// Refused at once, by the host itself.
const NAME_SERVER: &str = "nameserver 127.0.0.1\n";

/// Gives a host files of its own; it knows no names yet.
pub(super) fn add(namespace: &str) -> io::Result<()> {
    fs::create_dir_all(directory(namespace))?;
    fs::write(directory(namespace).join("hosts"), LOCALHOST)?;
    fs::write(directory(namespace).join("resolv.conf"), NAME_SERVER)
}

/// Makes `name` stand for these addresses on a host, and no other name for anything.
pub(super) fn point(namespace: &str, name: &str, addresses: &[IpAddr]) -> io::Result<()> {
    let lines = addresses
        .iter()
        .map(|address| format!("{address} {name}\n"));
    let hosts = LOCALHOST.to_owned() + &lines.collect::<String>();
    fs::write(directory(namespace).join("hosts"), hosts)
}

/// Removes the files of a host.
pub(super) fn remove(namespace: &str) -> io::Result<()> {
    match fs::remove_dir_all(directory(namespace)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The namespaces that have such files.
pub(super) fn namespaces() -> BTreeSet<String> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn directory(namespace: &str) -> PathBuf {
    PathBuf::from(DIRECTORY).join(namespace)
}
