//! `--supervise`.

use super::*;
use nuncio_testkit::process::Program;

/// A supervisor of a proxy, started and ready.
struct Supervised {
    setup: Setup,
    proxy: Proxy,
}

fn supervised(config: &str, flags: &[&str]) -> Supervised {
    supervised_by(program(), config, flags)
}

fn supervised_by(program: Program, config: &str, flags: &[&str]) -> Supervised {
    let setup = Setup::new(config);
    let path = setup.config();
    let mut args = vec!["--supervise", "-c", path.to_str().unwrap(), "--use-dynamic-base-id", "--concurrency", "2"];
    args.extend(flags);
    let mut proxy = program.spawn(&args, setup.dir.path()).unwrap();
    if let Err(error) = proxy.await_ready() {
        panic!("{error}\n--- output:\n{}", proxy.output());
    }
    Supervised { setup, proxy }
}

impl Supervised {
    /// Processes of the supervisor.
    fn children(&self) -> Vec<u32> {
        let id = self.proxy.id();
        let listed = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        listed.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect()
    }

    fn await_output(&self, text: &str) {
        assert!(
            self.proxy.await_that(|proxy| proxy.output().contains(text)),
            "it did not print {text:?}\n--- output:\n{}",
            self.proxy.output()
        );
    }

    /// Waits until an epoch serves and the ones before it have ended.
    fn await_epoch(&self, epoch: u32) {
        self.await_output(&format!("supervise: epoch {epoch} serves"));
        let alone = |_: &Proxy| self.children().len() == 1;
        assert!(self.proxy.await_that(alone), "{:?}\n{}", self.children(), self.proxy.output());
        assert_eq!(stat(&self.proxy, "server.hot_restart_epoch"), u64::from(epoch));
    }

    fn load(&self) -> Load {
        Load::start(&Target::Ip(self.setup.address("front")))
    }

    fn end(mut self) {
        self.proxy.signal(Signal::Terminate).unwrap();
        await_end(&mut self.proxy);
    }
}

#[test]
fn sighup_restarts_and_loses_nothing() {
    let supervised = supervised(&direct(), &["--drain-strategy", "immediate"]);
    let load = supervised.load();
    for epoch in 1..=3 {
        load.await_more(&supervised.proxy, 20);
        supervised.proxy.signal(Signal::Hangup).unwrap();
        supervised.await_epoch(epoch);
    }
    let sent = load.finish();
    await_stat(&supervised.proxy, "http.front.downstream_rq_total", sent);
    supervised.end();
}

#[test]
fn a_failing_epoch_leaves_the_one_before_it() {
    let supervised = supervised(&direct(), &["--drain-strategy", "immediate"]);
    let load = supervised.load();
    let good = std::fs::read_to_string(supervised.setup.config()).unwrap();
    std::fs::write(supervised.setup.config(), "nonsense: true").unwrap();
    supervised.proxy.signal(Signal::Hangup).unwrap();
    supervised.await_output("epoch 1 did not come to serve (exit status: 1): the one before it goes on serving");
    load.await_more(&supervised.proxy, 20);
    std::fs::write(supervised.setup.config(), good).unwrap();
    supervised.proxy.signal(Signal::Hangup).unwrap();
    supervised.await_epoch(1);
    load.finish();
    supervised.end();
}

#[test]
fn the_first_epoch_decides_about_the_start() {
    let setup = Setup::new("nonsense: true");
    let config = setup.config();
    let (code, output) = run_to_end(&["--supervise", "--use-dynamic-base-id", "-c", config.to_str().unwrap()]);
    assert!(code == 1 && output.contains("supervise: epoch 0 ended: exit status: 1: ending with it"), "{output}");
    for flags in [&["--disable-hot-restart"][..], &["--restart-epoch", "1"]] {
        let (code, output) = run_to_end(&[&["--supervise", "-c", config.to_str().unwrap()], flags].concat());
        assert!(code == 1 && output.contains("--supervise"), "{output}");
    }
}

#[test]
fn another_binary_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("nuncio");
    let replace = || {
        let new = directory.path().join("new");
        std::fs::copy(program().binary, &new).unwrap();
        std::fs::rename(new, &binary).unwrap();
    };
    replace();
    let by = Program { binary: binary.clone(), flags: Vec::new() };
    let supervised = supervised_by(by, &direct(), &["--drain-strategy", "immediate"]);
    let load = supervised.load();
    load.await_more(&supervised.proxy, 20);
    replace();
    supervised.await_epoch(1);
    load.finish();
    let running = std::fs::read_link(format!("/proc/{}/exe", supervised.children()[0])).unwrap();
    assert_eq!(running, binary.canonicalize().unwrap(), "not the one that was removed");
    supervised.end();
}

#[test]
fn the_newest_epoch_takes_the_supervisor_along() {
    let mut supervised = supervised(&direct(), &[]);
    let child = supervised.children()[0];
    let killed = std::process::Command::new("kill").args(["-KILL", &child.to_string()]).status().unwrap();
    assert!(killed.success());
    let status = supervised.proxy.await_exit().unwrap().expect("it does not end");
    assert_eq!(status.code(), Some(137), "{}", supervised.proxy.output());
}

#[test]
fn an_epoch_that_is_told_to_end_ends_the_supervisor() {
    let mut supervised = supervised(&direct(), &[]);
    assert_eq!(supervised.proxy.admin("POST", "/quitquitquit").unwrap().status(), 200);
    await_end(&mut supervised.proxy);
}

#[test]
fn no_epoch_outlives_the_supervisor() {
    let supervised = supervised(&direct(), &[]);
    let mut client = Client::connect(supervised.setup.address("front")).unwrap();
    assert_eq!(get(&mut client, "/").status(), 200);
    supervised.proxy.signal(Signal::Hangup).unwrap();
    supervised.await_output("supervise: epoch 1 serves");
    // Two of them: the connection is kept.
    let children = supervised.children();
    supervised.proxy.signal(Signal::Kill).unwrap();
    let gone = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Nobody may be there to wait for it.
        stat.is_empty() || stat.contains(") Z ")
    };
    assert!(!children.is_empty() && supervised.proxy.await_that(|_| children.iter().all(gone)), "{children:?}");
}

#[test]
fn requests_under_way_are_finished_before_the_supervisor_ends() {
    let gates = Gates::default();
    let held = Reply { path: Some("/held".into()), hold: Some("go".into()), ..Reply::default() };
    let origin = Origin::start(Script::Http(vec![held]), gates.clone()).unwrap();
    let config = Http { clusters: vec![cluster("a", &[origin.address()])], ..Http::default() }.text();
    let mut supervised = supervised(&config, &[]);
    let mut waiting = Client::connect(supervised.setup.address("front")).unwrap();
    waiting.send(b"GET /held HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    assert!(origin.await_seen(1, PATIENCE));
    supervised.proxy.signal(Signal::Terminate).unwrap();
    supervised.await_output("draining: connections have 600 s");
    gates.open("go");
    assert_eq!(waiting.response(false).status(), 200);
    await_end(&mut supervised.proxy);
}

#[test]
fn log_files_are_opened_anew_by_the_epochs() {
    let log = "{name: l, typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, \
               path: $dir/access.log, log_format: {text_format_source: {inline_string: \"line\\n\"}}}}";
    let config = Http {
        routes: "[{match: {prefix: /}, direct_response: {status: 200}}]",
        manager: &[&format!("access_log: [{log}]")],
        ..Http::default()
    };
    let supervised = supervised(&config.text(), &["--file-flush-interval-msec", "10"]);
    let path = supervised.setup.path("access.log");
    let line = |_: &Proxy| {
        let mut client = Client::connect(supervised.setup.address("front")).unwrap();
        get(&mut client, "/");
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("line"))
    };
    assert!(supervised.proxy.await_that(line));
    std::fs::rename(&path, supervised.setup.path("old.log")).unwrap();
    supervised.proxy.signal(Signal::User1).unwrap();
    assert!(supervised.proxy.await_that(line), "{}", supervised.proxy.output());
    supervised.end();
}
