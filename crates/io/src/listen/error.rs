//! Why a listener could not be bound, and what to do about it.

use std::fmt;
use std::io;
use std::path::Path;

use super::{ListenSpec, holder};
use crate::address::{Address, errno_text};

/// A listener that could not be bound. Traffic is not touched: an old listener of the same name keeps its sockets.
#[derive(Debug)]
pub struct BindError {
    /// The address that was asked for.
    pub address: Address,
    /// What was being done: `bind`, `listen`, or the name of a socket option.
    pub step: String,
    /// What the kernel said.
    pub source: io::Error,
    /// What to do about it.
    pub hint: Option<String>,
}

impl BindError {
    pub(super) fn new(spec: &ListenSpec, step: &str, source: io::Error) -> Self {
        let hint = hint(spec, step, &source);
        BindError { address: spec.address.clone(), step: step.to_owned(), source, hint }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first words are Envoy's, people search logs for them.
        write!(f, "cannot bind '{}': ", self.address)?;
        if self.step != "bind" {
            write!(f, "{}: ", self.step)?;
        }
        f.write_str(&errno_text(&self.source))?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

fn hint(spec: &ListenSpec, step: &str, error: &io::Error) -> Option<String> {
    let port = spec.address.ip().map(|ip| ip.port());
    let text = match error.raw_os_error()? {
        libc::EADDRINUSE => return Some(in_use(&spec.address)),
        libc::EACCES if step == "bind" && port.is_some_and(|port| (1..1024).contains(&port)) => {
            "a port below 1024 needs CAP_NET_BIND_SERVICE, or sysctl net.ipv4.ip_unprivileged_port_start"
        }
        libc::EACCES => "this user may not create a socket there; check the owner and mode of the directory",
        libc::EADDRNOTAVAIL => {
            "no interface of this machine has the address; use 0.0.0.0 or ::, or set `freebind: true`"
        }
        libc::EAFNOSUPPORT => "IPv6 is switched off on this machine; use an IPv4 address",
        libc::EPERM => "needs CAP_NET_ADMIN or CAP_NET_RAW",
        libc::ENODEV => "there is no network interface of this name",
        libc::ENOPROTOOPT => "the kernel does not know this option for this kind of socket",
        libc::ENOENT => "the directory of the path does not exist",
        libc::EMFILE => "raise the limit of open files (ulimit -n)",
        _ => return None,
    };
    Some(text.to_owned())
}

fn in_use(address: &Address) -> String {
    if let Address::Pipe(path) = address
        && !address.is_abstract()
        && !is_socket(Path::new(&**path))
    {
        return "something that is not a socket has this path; remove it or change `path`".to_owned();
    }
    let (what, field) = match address {
        Address::Ip(_) => ("port", "port_value"),
        Address::Pipe(_) => ("path", "path"),
    };
    match holder::find(address) {
        Some(holder) => format!("the {what} is in use by {holder}; stop that process or change `{field}`"),
        None => format!("another process uses the {what}; stop it or change `{field}`"),
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}
