//! What a PROXY protocol header towards the upstream says of the downstream connection (`proxy_protocol_tlvs`).

use nuncio_stream_info::{ConnectionInfo, Format, LogContext, ProxiedAddresses};
use std::sync::Arc;

/// What becomes of the values that came with the downstream connection (`proxy_protocol_tlv_merge_policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    /// Where there are any, or at least a header that might have had some, nothing is added.
    AddIfAbsent,
    /// Those of the same types are replaced.
    OverwriteByType,
    /// Both are sent.
    Append,
}

/// A value.
pub(super) enum TlvValue {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// What is to be said of the connection.
    Format(Format),
}

/// The configured values.
pub(super) struct ProxyTlvs {
    pub values: Vec<(u8, TlvValue)>,
    pub merge: Merge,
}

impl ProxyTlvs {
    /// What the upstream is told.
    pub(super) fn proxied(&self, connection: &ConnectionInfo, context: &LogContext<'_>) -> Arc<ProxiedAddresses> {
        let proxied = connection.proxied_addresses();
        if self.values.is_empty() || (connection.proxied.is_some() && self.merge == Merge::AddIfAbsent) {
            return proxied;
        }
        let mut proxied = ProxiedAddresses::clone(&proxied);
        if self.merge == Merge::OverwriteByType {
            proxied.tlvs.retain(|(kind, _)| !self.values.iter().any(|(own, _)| own == kind));
        }
        proxied.tlvs.extend(self.values.iter().map(|(kind, value)| (*kind, value.bytes(context))));
        Arc::new(proxied)
    }
}

impl TlvValue {
    fn bytes(&self, context: &LogContext<'_>) -> Arc<[u8]> {
        match self {
            TlvValue::Bytes(bytes) => Arc::clone(bytes),
            TlvValue::Format(format) => {
                let mut text = Vec::new();
                format.write(context, &mut text);
                text.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_stream_info::{Address, StreamInfo};
    use std::time::{Instant, SystemTime};

    fn told(merge: Merge, came: Option<&[(u8, &str)]>) -> Vec<(u8, String)> {
        let address = Address::Ip("127.0.0.1:80".parse().unwrap());
        let now = Instant::now();
        let mut connection = ConnectionInfo::new(1, now, address.clone(), address.clone());
        connection.proxied = came.map(|came| {
            let tlvs = came.iter().map(|(kind, value)| (*kind, value.as_bytes().into())).collect();
            Arc::new(ProxiedAddresses { source: address.clone(), destination: address, tlvs })
        });
        let values = vec![(1, TlvValue::Bytes(b"own".as_slice().into()))];
        let info = StreamInfo::new(now, SystemTime::now());
        let context = LogContext::new(&info, now, SystemTime::now());
        let proxied = ProxyTlvs { values, merge }.proxied(&connection, &context);
        proxied.tlvs.iter().map(|(kind, value)| (*kind, String::from_utf8_lossy(value).into_owned())).collect()
    }

    fn list(values: &[(u8, &str)]) -> Vec<(u8, String)> {
        values.iter().map(|(kind, value)| (*kind, (*value).to_owned())).collect()
    }

    #[test]
    fn configured_values_meet_those_that_came() {
        let came = Some(&[(1, "one"), (2, "two")][..]);
        assert_eq!(told(Merge::AddIfAbsent, came), list(&[(1, "one"), (2, "two")]));
        assert_eq!(told(Merge::OverwriteByType, came), list(&[(2, "two"), (1, "own")]));
        assert_eq!(told(Merge::Append, came), list(&[(1, "one"), (2, "two"), (1, "own")]));
        for merge in [Merge::AddIfAbsent, Merge::OverwriteByType, Merge::Append] {
            assert_eq!(told(merge, None), list(&[(1, "own")]));
        }
        assert_eq!(told(Merge::AddIfAbsent, Some(&[])), []);
    }
}
