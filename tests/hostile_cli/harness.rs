//! Runs the command in a folder of its own and measures it. What is damaged, and how, is in the other files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Most processor time of a refused call. Wall-clock would measure the other work of the machine.
pub const MOST_SECONDS: f64 = 2.0;
/// Most memory of a refused call.
pub const MOST_BYTES: u64 = 200 << 20;
/// A call that takes so long hangs.
const HANGS: Duration = Duration::from_secs(60);

/// What a call gave.
pub struct Outcome {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub cpu_seconds: f64,
    pub peak_bytes: u64,
}

/// A folder that goes with the test.
pub struct Room {
    dir: tempfile::TempDir,
}

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A tiny BertModel: 97 tokens, 29 positions.
pub fn bert() -> PathBuf {
    repository().join("tests/fixtures/parity/bert_model/model")
}

pub fn bert_inputs() -> PathBuf {
    repository().join("tests/fixtures/parity/bert_model/ids/inputs.safetensors")
}

impl Room {
    pub fn new() -> Self {
        Room { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The files of a folder, copied into a folder of the room.
    pub fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.path(name);
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
        to
    }

    pub fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// Every file below the room with its length, links and FIFOs by name alone.
    fn listing(&self) -> BTreeMap<PathBuf, u64> {
        let mut out = BTreeMap::new();
        let mut open = vec![self.dir.path().to_path_buf()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    open.push(entry.path());
                } else {
                    out.insert(
                        entry.path(),
                        if kind.is_file() { entry.metadata().unwrap().len() } else { 0 },
                    );
                }
            }
        }
        out
    }

    /// Runs frit and asserts that it refuses: status 1 or 2, a message on standard error that holds every word of
    /// `names`, nothing on standard output, no panic, no new or changed file, little time and memory.
    pub fn refuses<A: AsRef<OsStr>>(&self, args: &[A], names: &[&str]) -> Outcome {
        let before = self.listing();
        let out = frit(args);
        let call: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        let call = call.join(" ");
        let text = format!("`frit {call}` gave {:?}:\n{}", out.status, out.stderr);
        assert!(matches!(out.status, Some(1 | 2)), "{text}");
        assert!(!out.stderr.contains("panicked"), "{text}");
        assert!(out.stderr.contains("error: "), "{text}");
        for name in names {
            assert!(out.stderr.contains(name), "`{name}` is not named: {text}");
        }
        assert!(out.stdout.is_empty(), "{text}\nstandard output: {}", out.stdout);
        assert_eq!(before, self.listing(), "files changed: {text}");
        assert!(out.cpu_seconds < MOST_SECONDS, "{} s of processor time: {text}", out.cpu_seconds);
        assert!(out.peak_bytes < MOST_BYTES, "{} bytes of memory: {text}", out.peak_bytes);
        out
    }
}

/// Runs frit to its end.
pub fn frit<A: AsRef<OsStr>>(args: &[A]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frit"));
    command.args(args);
    run(&command)
}

/// Names the folder of a launched command to `launcher`.
const FOLDER: &str = "FRIT_HOSTILE_FOLDER";

/// Runs a command to its end; one that hangs is ended and fails the test.
///
/// Linux counts in a process's peak what its parent had when it began, and the process of these tests holds large
/// models: another of them, which holds nothing, begins the command.
pub fn run(command: &Command) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let words: Vec<&[u8]> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::as_bytes).collect();
    std::fs::write(folder.path().join("command"), words.join(&0)).unwrap();
    let launched = Command::new(std::env::current_exe().unwrap())
        .args(["harness::launcher", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(&read(name)).into_owned();
    let said = String::from_utf8_lossy(&launched.stderr);
    assert!(launched.status.success(), "{command:?}: {said}\n{}", text("stderr"));
    let figures = text("figures");
    let figures: Vec<&str> = figures.split(' ').collect();
    Outcome {
        status: figures[0].parse().ok(),
        stdout: text("stdout"),
        stderr: text("stderr"),
        cpu_seconds: figures[1].parse().unwrap(),
        peak_bytes: figures[2].parse().unwrap(),
    }
}

/// No test: runs the command that `run` has written down, and writes what it took.
#[test]
#[ignore = "the tests start it themselves"]
fn launcher() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let words = std::fs::read(folder.join("command")).unwrap();
    let mut words = words.split(|&b| b == 0).map(OsStr::from_bytes);
    // Files, not pipes: a pipe that fills would block the child while it is only waited for.
    let file = |name: &str| std::fs::File::create(folder.join(name)).unwrap();
    let child = Command::new(words.next().unwrap())
        .args(words)
        .env_remove(FOLDER)
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let begin = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: plain numbers, for which zero is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live variables, and the child is ours and waited for only here.
        let done = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage) };
        assert!(done >= 0, "wait4: {}", std::io::Error::last_os_error());
        if done == pid {
            let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
            let status =
                if libc::WIFEXITED(status) { libc::WEXITSTATUS(status).to_string() } else { "none".into() };
            let cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
            let peak = u64::try_from(usage.ru_maxrss).unwrap() * 1024;
            return std::fs::write(folder.join("figures"), format!("{status} {cpu} {peak}")).unwrap();
        }
        if begin.elapsed() > HANGS {
            // SAFETY: the child is ours and not yet waited for, so the number is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            panic!("hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A safetensors file from its header's JSON and its data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}
