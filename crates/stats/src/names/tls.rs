//! TLS: `listener.<address>.*` and `cluster.<name>.*`.

use crate::stat_group;

stat_group! {
    /// `<owner>.ssl.*`. Ciphers, curves, signature algorithms and versions (`<owner>.ssl.ciphers.<cipher>`, …) are dynamic.
    pub group TlsStats {
        counters {
            connection_error,
            fail_verify_cert_hash,
            fail_verify_error,
            fail_verify_no_cert,
            fail_verify_san,
            handshake,
            no_certificate,
            ocsp_staple_failed,
            ocsp_staple_omitted,
            ocsp_staple_requests,
            ocsp_staple_responses,
            session_reused,
        }
    }
}

stat_group! {
    /// `<owner>.ssl.certificate.<name>.*`
    pub group CertificateStats {
        gauges {
            expiration_unix_time_seconds,
        }
    }
}

stat_group! {
    /// `listener.<address>.server_ssl_socket_factory.*`, `cluster.<name>.client_ssl_socket_factory.*`
    pub group TlsSocketFactoryStats {
        counters {
            downstream_context_secrets_not_ready,
            ssl_context_update_by_sds,
            upstream_context_secrets_not_ready,
        }
    }
}

stat_group! {
    /// As [`TlsSocketFactoryStats`]: Nuncio's own count of changed secrets that could not be used.
    pub lazy group TlsUpdateFailureStats {
        counters {
            ssl_context_update_failed,
        }
    }
}

stat_group! {
    /// `tls_inspector.*`
    pub group TlsInspectorStats {
        counters {
            alpn_found,
            alpn_not_found,
            client_hello_too_large,
            sni_found,
            sni_not_found,
            tls_found,
            tls_not_found,
        }
        histograms {
            bytes_processed(bytes),
        }
    }
}
