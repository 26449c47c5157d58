//! Runs the command in a folder of its own and measures it. What is damaged, and how, is in the other files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Most processor time of a refused call. Wall-clock would measure the other work of the machine.
const MOST_SECONDS: f64 = 2.0;
/// Most memory of a refused call.
const MOST_BYTES: u64 = 200 << 20;
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
    run(command)
}

/// Runs a command to its end; one that hangs is ended and fails the test.
pub fn run(mut command: Command) -> Outcome {
    // Files, not pipes: a pipe that fills would block the child while it is only waited for.
    let (stdout, stderr) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    command.stdin(Stdio::null()).stdout(stdout.reopen().unwrap()).stderr(stderr.reopen().unwrap());
    let begin = Instant::now();
    let child = command.spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    loop {
        let mut status = 0;
        // SAFETY: plain numbers, for which zero is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live variables, and the child is ours and waited for only here.
        let done = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage) };
        assert!(done >= 0, "wait4: {}", std::io::Error::last_os_error());
        if done == pid {
            let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
            return Outcome {
                status: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
                stdout: std::fs::read_to_string(stdout.path()).unwrap(),
                stderr: std::fs::read_to_string(stderr.path()).unwrap(),
                cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
                peak_bytes: u64::try_from(usage.ru_maxrss).unwrap() * 1024,
            };
        }
        if begin.elapsed() > HANGS {
            // SAFETY: the child is ours and not yet waited for, so the number is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            panic!("{command:?} hangs: {}", std::fs::read_to_string(stderr.path()).unwrap());
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A safetensors file from its header's JSON and its data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}
