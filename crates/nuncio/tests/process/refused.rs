//! The acceptance files that are broken or need what is not there: refused with what mends them.

use crate::shared;
use crate::support::{Setup, run_to_end};

/// What `--mode validate` and a start print about a file; both must refuse it.
fn refused(number: &str) -> (String, String) {
    let path = shared::path(number);
    let file = path.to_str().unwrap();
    let (code, validated) = run_to_end(&["-c", file, "--mode", "validate"]);
    assert_ne!(code, 0, "--mode validate accepts {number}:\n{validated}");
    let (code, started) = run_to_end(&["-c", file]);
    assert_ne!(code, 0, "{number} ends without an error:\n{started}");
    (validated, started)
}

/// Each of the pieces must stand in what was printed.
fn says(printed: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(printed.contains(piece), "it does not say {piece:?}:\n{printed}");
    }
}

#[test]
fn file_01_can_be_mended_in_one_go() {
    if !crate::shared::at_hand() {
        return;
    }
    let text = shared::read("01");
    let place =
        |piece: &str, nth: usize| format!("01-manual-sidecar.yaml:{}: error: ", shared::position(&text, piece, nth));
    let (validated, started) = refused("01");
    for printed in [validated, started] {
        says(&printed, &[&place("clusters:", 0), "unknown field `clusters`"]);
        says(&printed, &["did you mean `cluster`, or a cluster under `static_resources.clusters`?"]);
        // Two listeners bind one address.
        says(&printed, &["static_resources.listeners[1]", "0.0.0.0:15001", "inbound-listener"]);
        // The route names a cluster that is not defined: the value is what is wrong.
        let route = shared::position(&text, "cluster: original-destination", 0);
        let (line, column) = route.split_once(':').unwrap();
        let column: usize = column.parse::<usize>().unwrap() + "cluster: ".len();
        says(&printed, &[&format!("01-manual-sidecar.yaml:{line}:{column}: error: "), "`original-destination`"]);
        let errors = printed.matches(": error: ").count();
        assert_eq!(errors, 3, "one line for each of the three mistakes:\n{printed}");
    }
}

#[test]
fn file_01_mended_as_it_was_told_is_accepted() {
    if !crate::shared::at_hand() {
        return;
    }
    let mended = shared::read("01").replacen("15001", "15006", 1).replace(
        "          clusters:\n          - name: original-destination\n            type: ORIGINAL_DST\n            \
             lb_policy: ORIGINAL_DST_LB\n",
        "          cluster: original-destination\n",
    ) + "\n  clusters:\n  - name: original-destination\n    type: ORIGINAL_DST\n    lb_policy: CLUSTER_PROVIDED\n";
    let setup = Setup::new(&mended);
    let (code, printed) = run_to_end(&["-c", setup.config().to_str().unwrap(), "--mode", "validate"]);
    assert_eq!(code, 0, "{printed}");
}

#[test]
fn file_15_names_the_missing_certificate() {
    if !crate::shared::at_hand() {
        return;
    }
    let text = shared::read("15");
    let (validated, _) = refused("15");
    let chain = shared::position(&text, "/etc/envoy/tls/server.crt", 0);
    let (line, _) = chain.split_once(':').unwrap();
    says(&validated, &[&format!("15-tls-termination.yaml:{line}:"), "/etc/envoy/tls/server.crt"]);
}

#[test]
fn file_16_tells_the_column_of_the_unterminated_command() {
    if !crate::shared::at_hand() {
        return;
    }
    let text = shared::read("16");
    let place = shared::position(&text, "text_format:", 0);
    let (line, _) = place.split_once(':').unwrap();
    let (validated, started) = refused("16");
    for printed in [validated, started] {
        says(&printed, &[&format!("16-access-log.yaml:{line}:"), "text_format"]);
        assert!(printed.to_lowercase().contains("column"), "it does not tell the column in the format:\n{printed}");
    }
}
