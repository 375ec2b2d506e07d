//! Hosts in network namespaces: each has its own interfaces, routes, packet filter and, where a test wants that, its own
//! `/etc/resolv.conf`. For tests of interception, where ports can't be remapped and real REDIRECT rules are needed.
//!
//! A host has no name and leaves nothing behind: the kernel takes it away when the last descriptor, thread and process in
//! it is gone. Needs the privileges of root, and the programs `ip` (iproute2) and `nft` (nftables).

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A host of its own.
pub struct Host {
    network: File,
    mounts: File,
    interfaces: AtomicUsize,
}

/// One end of a link: the host and its address there, with the length of the prefix, such as `10.0.0.1/24`.
pub type LinkEnd<'a> = (&'a Host, &'a str);

impl Host {
    /// Makes a host that has a loopback interface and nothing else.
    pub fn new() -> io::Result<Self> {
        let host =
            thread::spawn(Self::unshare).join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
        host.command("ip", &["link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// Moves the calling thread, which must be a fresh one that ends afterwards, into new namespaces.
    fn unshare() -> io::Result<Self> {
        // SAFETY: no pointers; the thread shares neither its network nor its mounts with others afterwards.
        checked(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) }).map_err(|error| {
            io::Error::new(error.kind(), format!("network namespaces can't be made; this test needs root: {error}"))
        })?;
        // What is mounted in this namespace stays in it.
        mount(None, &path(Path::new("/"))?, libc::MS_REC | libc::MS_PRIVATE)?;
        let network = File::open("/proc/thread-self/ns/net")?;
        let mounts = File::open("/proc/thread-self/ns/mnt")?;
        Ok(Self { network, mounts, interfaces: AtomicUsize::new(0) })
    }

    /// Calls `work` on a thread that is on this host. Sockets, threads and processes that it makes are on this host for
    /// their whole life.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let on_host = scope.spawn(|| self.enter().map(|()| work()));
            match on_host.join() {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => std::panic::resume_unwind(Box::new(format!("the host can't be entered: {error}"))),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn enter(&self) -> io::Result<()> {
        // A thread that shares its working directory with others may not change its mounts.
        // SAFETY: no pointers; only this thread is concerned.
        checked(unsafe { libc::unshare(libc::CLONE_FS) })?;
        set_namespace(self.mounts.as_raw_fd(), libc::CLONE_NEWNS)?;
        set_namespace(self.network.as_raw_fd(), libc::CLONE_NEWNET)
    }

    /// Runs a program on this host. What it printed is the error when it fails.
    pub fn command(&self, program: &str, args: &[&str]) -> io::Result<()> {
        self.run(|| run_with_input(program, args, ""))
    }

    /// Loads rules in the language of `nft`.
    pub fn rules(&self, rules: &str) -> io::Result<()> {
        self.run(|| run_with_input("nft", &["-f", "-"], rules))
    }

    /// Redirects the TCP connections that come in from other hosts, and match `filter` in the language of `nft`, to a
    /// local port: the rule of iptables `-t nat -A PREROUTING -p tcp ... -j REDIRECT --to-ports PORT`.
    pub fn redirect(&self, filter: &str, port: u16) -> io::Result<()> {
        self.rules(&format!(
            "table ip nat {{ chain prerouting {{ type nat hook prerouting priority dstnat; \
             meta l4proto tcp {filter} redirect to :{port}; }}; }}\n"
        ))
    }

    /// Connects two hosts by a pair of interfaces.
    pub fn link(one: LinkEnd<'_>, other: LinkEnd<'_>) -> io::Result<()> {
        let (near, far) = (one.0.next_interface(), other.0.next_interface());
        let namespace = format!("/proc/{}/fd/{}", std::process::id(), other.0.network.as_raw_fd());
        let pair = ["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &namespace];
        one.0.command("ip", &pair)?;
        for ((host, address), interface) in [(one, near), (other, far)] {
            host.command("ip", &["address", "add", address, "dev", &interface])?;
            host.command("ip", &["link", "set", &interface, "up"])?;
        }
        Ok(())
    }

    fn next_interface(&self) -> String {
        format!("eth{}", self.interfaces.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends what has no other way through `gateway`.
    pub fn default_route(&self, gateway: Ipv4Addr) -> io::Result<()> {
        self.command("ip", &["route", "add", "default", "via", &gateway.to_string()])
    }

    /// Adds an address to the loopback interface, as `10.0.0.9/32`.
    pub fn add_address(&self, address: &str) -> io::Result<()> {
        self.command("ip", &["address", "add", address, "dev", "lo"])
    }

    /// Forwards packets between the interfaces.
    pub fn forward(&self) -> io::Result<()> {
        self.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
    }

    /// Lets names be looked up at a server on the standard port, by an `/etc/resolv.conf` of its own, which is kept in
    /// `dir`.
    pub fn use_name_server(&self, server: SocketAddr, dir: &Path) -> io::Result<()> {
        self.replace_file(Path::new("/etc/resolv.conf"), &format!("nameserver {}\n", server.ip()), dir)
    }

    /// Puts a file with `text`, which is kept in `dir`, over the existing file `target`, as this host sees it.
    pub fn replace_file(&self, target: &Path, text: &str, dir: &Path) -> io::Result<()> {
        let name = target.file_name().unwrap_or_default();
        let source = dir.join(name);
        std::fs::write(&source, text)?;
        let (source, target) = (path(&source)?, path(target)?);
        self.run(|| mount(Some(&source), &target, libc::MS_BIND))
    }
}

/// A mount that takes neither a type nor data.
fn mount(source: Option<&CStr>, target: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    let source = source.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the strings are terminated and live; source, type and data may be null with the flags that are used here.
    checked(unsafe { libc::mount(source, target.as_ptr(), std::ptr::null(), flags, std::ptr::null()) })
}

fn set_namespace(descriptor: RawFd, kind: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call; only the calling thread moves.
    checked(unsafe { libc::setns(descriptor, kind) })
}

fn checked(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other)
}

fn run_with_input(program: &str, args: &[&str], input: &str) -> io::Result<()> {
    let mut command = Command::new(program);
    let piped = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}, which this test needs: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{program} {}: {said}", args.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::gate::Gates;
    use crate::origin::{Origin, Script};

    #[test]
    fn a_redirected_connection_reaches_the_local_port() {
        let (client, server) = (Host::new().unwrap(), Host::new().unwrap());
        Host::link((&client, "10.0.0.1/24"), (&server, "10.0.0.2/24")).unwrap();
        server.redirect("tcp dport 80", 8080).unwrap();
        let address = "0.0.0.0:8080".parse().unwrap();
        let origin = server.run(|| Origin::start_at(address, Script::default(), Gates::default())).unwrap();
        let status = client.run(|| {
            let mut client = Client::connect("10.0.0.2:80".parse().unwrap()).unwrap();
            client.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            client.response(false).status()
        });
        assert_eq!((status, origin.seen().len()), (200, 1));
    }

    #[test]
    fn a_file_is_replaced_on_one_host_only() {
        let host = Host::new().unwrap();
        let dir = std::env::temp_dir().join(format!("nuncio-netns-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        host.replace_file(Path::new("/etc/hostname"), "lonely\n", &dir).unwrap();
        let there = host.run(|| std::fs::read_to_string("/etc/hostname")).unwrap();
        assert_eq!(there, "lonely\n");
        assert_ne!(std::fs::read_to_string("/etc/hostname").unwrap(), there);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
