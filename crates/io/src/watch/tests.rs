//! Changes real files in a directory of the test.

use std::os::unix::fs::symlink;

use super::*;

struct Setup {
    directory: tempfile::TempDir,
    watcher: Watcher,
}

impl Setup {
    fn new() -> Self {
        Setup { directory: tempfile::tempdir().unwrap(), watcher: Watcher::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn add(&mut self, name: &str) -> WatchId {
        let path = self.path(name);
        self.watcher.add(&path).unwrap()
    }

    async fn changed(&mut self) -> Vec<WatchId> {
        self.watcher.changed().await.unwrap()
    }

    /// Whatever happened so far was told or is no change. Events are there as soon as the call that made them returns;
    /// one more file is changed to see that all were read.
    async fn nothing_but(&mut self, marker: WatchId) {
        self.write("marker", &format!("{:?}", std::time::Instant::now()));
        assert_eq!(self.changed().await, [marker]);
    }
}

#[tokio::test]
async fn ways_to_change_a_file() {
    let mut setup = Setup::new();
    setup.write("file", "1");
    setup.write("marker", "");
    let (file, marker) = (setup.add("file"), setup.add("marker"));
    setup.nothing_but(marker).await;

    setup.write("file", "in place");
    assert_eq!(setup.changed().await, [file]);

    setup.write("other", "renamed over it");
    fs::rename(setup.path("other"), setup.path("file")).unwrap();
    assert_eq!(setup.changed().await, [file]);

    fs::remove_file(setup.path("file")).unwrap();
    setup.nothing_but(marker).await;
    setup.write("file", "back");
    assert_eq!(setup.changed().await, [file]);

    fs::remove_file(setup.path("file")).unwrap();
    setup.write("target", "by hard link");
    fs::hard_link(setup.path("target"), setup.path("file")).unwrap();
    assert_eq!(setup.changed().await, [file]);

    setup.write("unrelated", "x");
    setup.nothing_but(marker).await;

    setup.watcher.remove(file);
    setup.write("file", "nobody cares");
    setup.nothing_but(marker).await;
}

#[tokio::test]
async fn half_written_file_is_not_told() {
    use std::io::Write;
    let mut setup = Setup::new();
    let file = setup.add("file");
    setup.write("marker", "");
    let marker = setup.add("marker");
    let mut open = fs::File::create(setup.path("file")).unwrap();
    open.write_all(b"half").unwrap();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(setup.watcher.poll_changed(&mut cx).is_pending());
    open.write_all(b" and half").unwrap();
    drop(open);
    assert_eq!(setup.changed().await, [file]);
    setup.nothing_but(marker).await;
}

#[tokio::test]
async fn kubernetes_volume() {
    let mut setup = Setup::new();
    setup.write("marker", "");
    let marker = setup.add("marker");
    let publish = |setup: &Setup, version: &str| {
        let data = setup.path(version);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("envoy.yaml"), version).unwrap();
        symlink(version, setup.path("..data_tmp")).unwrap();
        fs::rename(setup.path("..data_tmp"), setup.path("..data")).unwrap();
    };
    publish(&setup, "..1");
    symlink("..data/envoy.yaml", setup.path("envoy.yaml")).unwrap();
    let file = setup.add("envoy.yaml");
    for version in ["..2", "..3", "..4"] {
        publish(&setup, version);
        assert_eq!(setup.changed().await, [file], "{version}");
        assert_eq!(fs::read_to_string(setup.path("envoy.yaml")).unwrap(), version);
    }
    fs::remove_dir_all(setup.path("..1")).unwrap();
    setup.nothing_but(marker).await;
    // The directories of the versions come and go; what is watched does not grow.
    assert!(setup.watcher.directories.len() <= 3, "{:?}", setup.watcher.directories);
}

#[tokio::test]
async fn directory_that_does_not_exist_yet() {
    let mut setup = Setup::new();
    let file = setup.add("a/b/file");
    fs::create_dir_all(setup.path("a/b")).unwrap();
    setup.write("a/b/file", "here");
    assert_eq!(setup.changed().await, [file]);
    fs::rename(setup.path("a"), setup.path("c")).unwrap();
    fs::create_dir_all(setup.path("a/b")).unwrap();
    setup.write("a/b/file", "here again");
    assert_eq!(setup.changed().await, [file]);
}

#[test]
fn directories_on_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::create_dir(root.join("real")).unwrap();
    fs::write(root.join("real/file"), "").unwrap();
    symlink("real", root.join("link")).unwrap();
    symlink("../link/file", root.join("real/up")).unwrap();
    symlink(root.join("loop"), root.join("loop")).unwrap();
    let check = |path: &str, expected: &[&str]| {
        let expected: Vec<PathBuf> = expected.iter().map(|name| root.join(name)).collect();
        let trim = |paths: Vec<PathBuf>| paths.iter().map(|p| p.components().collect::<PathBuf>()).collect::<Vec<_>>();
        assert_eq!(trim(directories(&root.join(path))), trim(expected), "{path}");
    };
    check("real/file", &["real"]);
    check("link/file", &["", "real"]);
    check("link/up", &["", "real", "", "real"]);
    check("absent/file", &["absent"]);
    assert!(directories(&root.join("loop")).len() <= MOST_LINKS + 1);
}
