//! Finds the process that listens on an address, for an error text. Reads `/proc`; called only after a failure.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::{Address, canonical};

/// Descriptors looked at before giving up.
const MOST_LINKS: usize = 200_000;

/// A process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pid: u32,
    name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == std::process::id() {
            return f.write_str("another listener of this process");
        }
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Who listens there; `None` if it can't be seen (another user, another network namespace).
pub(super) fn find(address: &Address) -> Option<Holder> {
    let inode = match address {
        Address::Ip(ip) => ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .find_map(|table| listening_tcp(&fs::read_to_string(table).ok()?, *ip)),
        Address::Pipe(path) => listening_unix(&fs::read_to_string("/proc/net/unix").ok()?, path),
    }?;
    process_with(inode)
}

/// The inode of the TCP socket that listens on `wanted` or on what overlaps with it.
fn listening_tcp(table: &str, wanted: SocketAddr) -> Option<u64> {
    let wanted = canonical(wanted);
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let (ip, port) = local.split_once(':')?;
        let overlaps = |ip: IpAddr| ip.is_unspecified() || wanted.ip().is_unspecified() || ip == wanted.ip();
        let here = state == "0A"
            && u16::from_str_radix(port, 16).ok()? == wanted.port()
            && overlaps(table_ip(ip)?.to_canonical());
        if here { fields.nth(5)?.parse().ok() } else { None }
    })
}

/// An address of `/proc/net/tcp`: 32-bit words in hexadecimal, each in the byte order of the machine.
fn table_ip(text: &str) -> Option<IpAddr> {
    let word = |from: usize| Some(u32::from_str_radix(text.get(from..from + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// The inode of the unix socket that listens on `path`.
fn listening_unix(table: &str, path: &str) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let flags = fields.nth(3)?;
        let inode = fields.nth(2)?;
        // 0x10000: listening.
        (flags == "00010000" && fields.next()? == path).then(|| inode.parse().ok())?
    })
}

fn process_with(inode: u64) -> Option<Holder> {
    let link = format!("socket:[{inode}]");
    let mut left = MOST_LINKS;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            left = left.checked_sub(1)?;
            if fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == link.as_str()) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some(Holder { pid, name: name.trim().to_owned() });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0
   2: 0100007F:2000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0
bad line
";
    const TCP6: &str = "head
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 444 1 0
   1: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 555 1 0
";
    const UNIX: &str = "Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 777 /run/x.sock
0000000000000000: 00000003 00000000 00000000 0001 03 778 /run/y.sock
0000000000000000: 00000002 00000000 00010000 0001 01 779 @name
0000000000000000: 00000002 00000000 00010000 0001 01 780
";

    #[test]
    fn tables_are_searched() {
        let tcp = |table: &str, address: &str, inode: Option<u64>| {
            assert_eq!(listening_tcp(table, address.parse().unwrap()), inode, "{address}");
        };
        tcp(TCP, "127.0.0.1:8080", Some(111));
        tcp(TCP, "0.0.0.0:8080", Some(111));
        tcp(TCP, "127.0.0.2:8080", None);
        tcp(TCP, "192.0.2.1:80", Some(222));
        tcp(TCP, "127.0.0.1:8192", None);
        tcp("", "127.0.0.1:8192", None);
        tcp(TCP6, "[::1]:8080", Some(444));
        tcp(TCP6, "127.0.0.1:8081", Some(555));
        let unix = |path: &str, inode: Option<u64>| assert_eq!(listening_unix(UNIX, path), inode, "{path}");
        unix("/run/x.sock", Some(777));
        unix("/run/y.sock", None);
        unix("@name", Some(779));
        unix("/run/z.sock", None);
    }

    #[test]
    fn own_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = find(&Address::Ip(listener.local_addr().unwrap())).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(holder.to_string(), "another listener of this process");
        assert_eq!(Holder { pid: u32::MAX, name: "nginx".into() }.to_string(), "nginx (process 4294967295)");
    }
}
