//! Why a handshake failed, in the words that Envoy takes from BoringSSL: logs and alerts are searched for them.

use std::io;

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use crate::notes::{Notes, StapleOutcome};
use crate::session::{FailureKind, HandshakeError};

/// Library number of BoringSSL's SSL errors, in place.
const SSL_LIBRARY: u32 = 16 << 24;

fn reason(number: u32, name: &str) -> String {
    format!("TLS_error:|{}:SSL routines:OPENSSL_internal:{name}", SSL_LIBRARY | number)
}

fn error(kind: FailureKind, reason: String) -> HandshakeError {
    HandshakeError { kind, reason, staple: StapleOutcome::default(), info: None }
}

fn protocol(number: u32, name: &str) -> HandshakeError {
    error(FailureKind::Protocol, reason(number, name) + END)
}

const NO_CERTIFICATE: &str = ":peer did not provide required client certificate";
const END: &str = ":TLS_error_end";

pub(super) fn closed() -> HandshakeError {
    error(FailureKind::Closed, String::new())
}

pub(super) fn io(_error: &io::Error) -> HandshakeError {
    closed()
}

pub(super) fn too_large() -> HandshakeError {
    protocol(150, "EXCESSIVE_MESSAGE_SIZE")
}

pub(super) fn internal() -> HandshakeError {
    protocol(68, "INTERNAL_ERROR")
}

/// `first` is what was received and not understood.
pub(super) fn describe(cause: &Error, notes: Option<&Notes>, first: &[u8]) -> HandshakeError {
    let mut failure = match notes.and_then(|notes| notes.failure.as_ref()) {
        Some((kind, text)) => error(*kind, format!("{}:{text}{END}", reason(125, "CERTIFICATE_VERIFY_FAILED"))),
        None => plain(cause, first),
    };
    failure.staple = notes.map(|notes| notes.staple).unwrap_or_default();
    failure
}

fn plain(cause: &Error, first: &[u8]) -> HandshakeError {
    use PeerIncompatible as Incompatible;
    match cause {
        Error::NoCertificatesPresented => {
            error(FailureKind::NoCertificate, reason(192, "PEER_DID_NOT_RETURN_A_CERTIFICATE") + NO_CERTIFICATE + END)
        }
        Error::AlertReceived(AlertDescription::CloseNotify) => closed(),
        Error::AlertReceived(alert) => {
            let code = u8::from(*alert);
            protocol(1000 + u32::from(code), &alert_name(*alert))
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            not_a_record(first)
        }
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) => protocol(150, "EXCESSIVE_MESSAGE_SIZE"),
        Error::InvalidMessage(_) if is_hello(first) => protocol(131, "CLIENTHELLO_PARSE_FAILED"),
        Error::InvalidMessage(_) => protocol(137, "DECODE_ERROR"),
        Error::DecryptError => protocol(139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
        Error::PeerSentOversizedRecord => protocol(136, "DATA_LENGTH_TOO_LONG"),
        Error::NoApplicationProtocol => protocol(307, "NO_APPLICATION_PROTOCOL"),
        Error::PeerIncompatible(incompatible) => match incompatible {
            Incompatible::NoCipherSuitesInCommon => protocol(184, "NO_SHARED_CIPHER"),
            Incompatible::NoKxGroupsInCommon => protocol(266, "NO_SHARED_GROUP"),
            Incompatible::NoSignatureSchemesInCommon => protocol(253, "NO_COMMON_SIGNATURE_ALGORITHMS"),
            _ => protocol(240, "UNSUPPORTED_PROTOCOL"),
        },
        Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme) => {
            protocol(245, "WRONG_SIGNATURE_TYPE")
        }
        Error::InvalidCertificate(_) => protocol(123, "BAD_SIGNATURE"),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            protocol(223, "UNEXPECTED_MESSAGE")
        }
        Error::General(text) if text.contains("server certificate") => protocol(178, "NO_CERTIFICATE_SET"),
        _ => protocol(137, "DECODE_ERROR"),
    }
}

fn is_hello(first: &[u8]) -> bool {
    matches!(first, [22, 3, _, _, _, 1, ..])
}

/// Something else than TLS was sent.
fn not_a_record(first: &[u8]) -> HandshakeError {
    const METHODS: [&[u8]; 5] = [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELET"];
    if METHODS.iter().any(|method| first.starts_with(&method[..method.len().min(5)])) {
        return protocol(156, "HTTP_REQUEST");
    }
    if first.starts_with(b"CONNE") {
        return protocol(155, "HTTPS_PROXY_REQUEST");
    }
    protocol(247, "WRONG_VERSION_NUMBER")
}

fn alert_name(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let name = match alert {
        Alert::UnexpectedMessage => "SSLV3_ALERT_UNEXPECTED_MESSAGE",
        Alert::BadRecordMac => "SSLV3_ALERT_BAD_RECORD_MAC",
        Alert::HandshakeFailure => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        Alert::BadCertificate => "SSLV3_ALERT_BAD_CERTIFICATE",
        Alert::UnsupportedCertificate => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        Alert::CertificateRevoked => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        Alert::CertificateExpired => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        Alert::CertificateUnknown => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        Alert::IllegalParameter => "SSLV3_ALERT_ILLEGAL_PARAMETER",
        Alert::UnknownCA => "TLSV1_ALERT_UNKNOWN_CA",
        Alert::AccessDenied => "TLSV1_ALERT_ACCESS_DENIED",
        Alert::DecodeError => "TLSV1_ALERT_DECODE_ERROR",
        Alert::DecryptError => "TLSV1_ALERT_DECRYPT_ERROR",
        Alert::ProtocolVersion => "TLSV1_ALERT_PROTOCOL_VERSION",
        Alert::InsufficientSecurity => "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        Alert::InternalError => "TLSV1_ALERT_INTERNAL_ERROR",
        Alert::UserCanceled => "TLSV1_ALERT_USER_CANCELLED",
        Alert::NoRenegotiation => "TLSV1_ALERT_NO_RENEGOTIATION",
        Alert::UnrecognisedName => "TLSV1_ALERT_UNRECOGNIZED_NAME",
        Alert::CertificateRequired => "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        Alert::NoApplicationProtocol => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        other => return format!("ALERT_{}", u8::from(other)),
    };
    name.to_owned()
}
