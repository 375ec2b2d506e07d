//! Listening sockets that another process handed over: they keep the connections that wait in them.

use std::io;
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

use super::{BindError, Bound, ListenSpec, bind_one, is_socket, shares_port};
use crate::address::Address;

/// The sockets of one address of another process's listener, all that it has.
#[derive(Debug)]
pub struct Inherited {
    address: Address,
    sockets: Vec<Socket>,
}

impl Inherited {
    /// Checks that each descriptor is a socket that listens on `address`.
    pub fn new(address: Address, descriptors: Vec<OwnedFd>) -> io::Result<Inherited> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text.to_owned());
        let sockets: Vec<Socket> = descriptors.into_iter().map(Socket::from).collect();
        if sockets.is_empty() {
            return Err(invalid("no socket was handed over"));
        }
        for socket in &sockets {
            if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
                return Err(invalid("what was handed over does not listen"));
            }
            let found = socket.local_addr()?;
            let same = match &address {
                Address::Ip(ip) => found.as_socket() == Some(*ip),
                Address::Pipe(_) => Address::from_kernel(&found) == address,
            };
            if !same {
                return Err(invalid("what was handed over listens somewhere else"));
            }
            socket.set_nonblocking(true)?;
        }
        Ok(Inherited { address, sockets })
    }

    /// Where they listen; the port is never 0.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether they can be what `spec` asks for: they listen where it says (or at any port, if it has none), and differ in
    /// nothing that can't be changed.
    pub fn serves(&self, spec: &ListenSpec) -> bool {
        match (&self.address, &spec.address) {
            (Address::Pipe(_), Address::Pipe(path)) => {
                self.address == spec.address && (spec.address.is_abstract() || is_socket(path))
            }
            (Address::Ip(here), Address::Ip(wanted)) => {
                let place = here.ip() == wanted.ip() && (wanted.port() == 0 || here.port() == wanted.port());
                place && (here.is_ipv4() || self.sockets.iter().all(|s| s.only_v6().ok() == Some(!spec.ipv4_compat)))
            }
            _ => false,
        }
    }

    /// As [`super::bind`], with these sockets. Where there are fewer than workers, and each worker is to have its own, more
    /// are bound beside them; where there are more, some workers get several, so that no queue is left alone.
    pub fn bind(&self, spec: &ListenSpec, workers: usize) -> Result<Bound, BindError> {
        let failed = |e| BindError::new(spec, "take over the socket", e);
        let address = self.address.clone();
        let mut sockets = self.sockets.iter().map(Socket::try_clone).collect::<io::Result<Vec<_>>>().map_err(failed)?;
        let mut own = false;
        if let Some(first) = sockets.first() {
            let ip = matches!(first.domain().map_err(failed)?, Domain::IPV4 | Domain::IPV6);
            own = ip && first.reuse_port().map_err(failed)?;
        }
        if !own {
            // They are all the same one.
            sockets.truncate(1);
        }
        while own && shares_port(spec) && sockets.len() < workers {
            sockets.push(bind_one(spec, &address)?);
        }
        Ok(Bound { spec: spec.clone(), address, sockets, workers: workers.max(1), taken_over: true, shared: !own })
    }
}
