//! Key logs in NSS format (`TlsKeyLog`), for the addresses that the configuration names.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use nuncio_matcher::CidrSet;

use crate::certificate::hex;
use crate::finding::{ContextError, Finding};
use crate::notes;
use crate::spec::KeyLogSpec;

/// See the module.
pub(crate) struct KeyLogger {
    file: Mutex<File>,
    local: CidrSet,
    remote: CidrSet,
}

impl KeyLogger {
    pub(crate) fn open(spec: &KeyLogSpec) -> Result<KeyLogger, ContextError> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&spec.path).map_err(|error| {
            let found = format!("{} can't be opened: {error}", spec.path.display());
            Finding::new("key_log.path", found, "the directory must exist and be writable")
        })?;
        Ok(KeyLogger {
            file: Mutex::new(file),
            local: CidrSet::new(spec.local_address_range.iter().copied()),
            remote: CidrSet::new(spec.remote_address_range.iter().copied()),
        })
    }

    fn is_wanted(&self) -> bool {
        let fits = |set: &CidrSet, address: Option<IpAddr>| {
            set.is_empty() || address.is_some_and(|address| set.contains(address))
        };
        notes::with(|notes| fits(&self.local, notes.local) && fits(&self.remote, notes.remote))
    }
}

impl fmt::Debug for KeyLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLogger")
    }
}

impl rustls::KeyLog for KeyLogger {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        // TLS 1.2 does not ask before.
        if !self.is_wanted() {
            return;
        }
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // The log is for debugging: where it fails, traffic goes on.
        let _ = file.write_all(line.as_bytes());
    }

    fn will_log(&self, _label: &str) -> bool {
        self.is_wanted()
    }
}
