//! Who has a port, or the store: the process id and the name of its program, from `/proc`.
//!
//! `/proc/net/{tcp,tcp6,udp,udp6}` tell the inode of each socket, `/proc/PID/fd` which
//! process has it (proc(5), proc_pid_net(5)); `/proc/locks` tells who holds a lock on a
//! file. A process of another user, or of another namespace, keeps its files to itself:
//! then the holder is not known, which is no error. Only the program's name is read and
//! never its arguments, which may hold secrets.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::fs::MetadataExt as _;
use std::path::Path;

/// State of a TCP socket that listens, as the kernel numbers it.
const LISTENING: &str = "0A";

/// A process that has something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// Its id.
    pub(super) pid: u32,
    /// The name of its program, cut off by the kernel after 15 bytes.
    program: Option<String>,
}

/// Which half of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// Listening sockets.
    Tcp,
    /// Bound sockets.
    Udp,
}

impl Holder {
    /// Who has a socket in the way of `address`, if that can be seen from here.
    pub(super) fn of_port(address: SocketAddr, half: Half) -> Option<Self> {
        let tables = match half {
            Half::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
            Half::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        };
        let texts = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
        let inodes: Vec<u64> = texts
            .iter()
            .flat_map(|text| inodes(text, address, half))
            .collect();
        let pid = process_with_socket(&inodes)?;
        Some(Self::of_process(pid))
    }

    /// Who holds a lock on the file at `path`, if that can be seen from here.
    pub(super) fn of_lock(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let device = metadata.st_dev();
        let file = format!(
            "{:02x}:{:02x}:{}",
            rustix::fs::major(device),
            rustix::fs::minor(device),
            metadata.st_ino()
        );
        let locks = fs::read_to_string("/proc/locks").ok()?;
        lock_owner(&locks, &file).map(Self::of_process)
    }

    fn of_process(pid: u32) -> Self {
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        Self {
            pid,
            program: program.map(|program| program.trim_end().to_owned()),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(f, "process {} ({program})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// The inodes of the sockets of one table that are in the way of `address`.
fn inodes(table: &str, address: SocketAddr, half: Half) -> Vec<u64> {
    let in_the_way = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = parse_address(fields.next()?)?;
        let state = fields.nth(1)?;
        // Behind the state: queues, timer, retransmissions, user, time-out.
        let inode: u64 = fields.nth(5)?.parse().ok()?;
        let everywhere = local.ip().is_unspecified() || address.ip().is_unspecified();
        let overlaps = local.port() == address.port() && (local.ip() == address.ip() || everywhere);
        let counts = half == Half::Udp || state == LISTENING;
        (overlaps && counts && inode != 0).then_some(inode)
    };
    table.lines().skip(1).filter_map(in_the_way).collect()
}

/// An address as the kernel prints it: words of 32 bits in the order of the machine, a colon, the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0; 16];
    let words = host.len() / 8;
    if !host.is_ascii() || host.len() % 8 != 0 || !(words == 1 || words == 4) {
        return None;
    }
    for (word, place) in host.as_bytes().chunks(8).zip(bytes.chunks_mut(4)) {
        let word = std::str::from_utf8(word).ok()?;
        place.copy_from_slice(&u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
    }
    let ip = if words == 1 {
        let [a, b, c, d, ..] = bytes;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        Ipv6Addr::from(bytes).to_canonical()
    };
    Some(SocketAddr::new(ip, port))
}

fn process_with_socket(inodes: &[u64]) -> Option<u32> {
    if inodes.is_empty() {
        return None;
    }
    let links: Vec<String> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?;
        let has = files.any(|file| {
            file.and_then(|file| fs::read_link(file.path()))
                .is_ok_and(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
        });
        has.then_some(pid)
    })
}

/// The owner of a lock of the kind that a store takes (flock(2)), in the text of `/proc/locks`.
fn lock_owner(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // A line that waits for a lock has an arrow in front.
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, on, ..] if *on == file => {
                pid.parse().ok().filter(|pid| *pid != 0)
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_holder_of_a_port_is_this_process() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (address, half) in [
            (tcp.local_addr().unwrap(), Half::Tcp),
            (udp.local_addr().unwrap(), Half::Udp),
        ] {
            let holder = Holder::of_port(address, half).unwrap();
            assert_eq!(holder.pid, std::process::id());
            assert!(holder.to_string().contains(" ("), "{holder}");
        }
        let port = tcp.local_addr().unwrap().port();
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        assert!(Holder::of_port(everywhere, Half::Tcp).is_some());
        drop(tcp);
        assert_eq!(Holder::of_port(everywhere, Half::Tcp), None);
    }

    #[test]
    fn the_holder_of_a_lock_is_this_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let file = File::create(&path).unwrap();
        assert_eq!(Holder::of_lock(&path), None);
        file.lock().unwrap();
        let line = fs::read_to_string("/proc/locks").unwrap_or_default();
        let own = format!(" {} ", std::process::id());
        // Where locks are not shown (some containers), the holder is not known.
        if line.contains(&own) {
            assert_eq!(Holder::of_lock(&path).unwrap().pid, std::process::id());
        }
    }

    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        if cfg!(target_endian = "big") {
            return;
        }
        for (text, address) in [
            ("0100007F:24B8", "127.0.0.1:9400"),
            ("00000000:0050", "0.0.0.0:80"),
            ("00000000000000000000000001000000:24B9", "[::1]:9401"),
            ("0000000000000000FFFF00000100007F:24B8", "127.0.0.1:9400"),
        ] {
            assert_eq!(
                parse_address(text),
                Some(address.parse().unwrap()),
                "{text}"
            );
        }
        for text in [
            "",
            ":",
            "0100007F",
            "0100007F:XX",
            "01:24B8",
            "梁梁梁梁:24B8",
        ] {
            assert_eq!(parse_address(text), None, "{text}");
        }
    }

    #[test]
    fn only_listeners_are_in_the_way_of_a_tcp_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:24B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0\n\
             1: 0100007F:24B8 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 78 1 0\n\
             2: 00000000:24B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 79 1 0\n\
             3: 0200007F:24B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 80 1 0\n\
             4: damaged\n";
        let address = "127.0.0.1:9400".parse().unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(inodes(table, address, Half::Tcp), [77, 79]);
            assert_eq!(inodes(table, address, Half::Udp), [77, 78, 79]);
        }
    }

    #[test]
    fn a_lock_is_owned_by_who_holds_it_and_not_by_who_waits() {
        let locks = "1: FLOCK  ADVISORY  WRITE 19456 fe:00:5308500 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 20000 fe:00:77 0 EOF\n\
                     2: OFDLCK ADVISORY  WRITE -1 fe:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 fe:00:88 0 EOF\n";
        assert_eq!(lock_owner(locks, "fe:00:5308500"), Some(19456));
        assert_eq!(lock_owner(locks, "fe:00:77"), None);
        assert_eq!(lock_owner(locks, "fe:00:88"), None, "of another namespace");
    }
}
