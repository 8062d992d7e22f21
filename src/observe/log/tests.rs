//! Rotation, removed files, full disks, and who may read a log.
use super::*;

/// The files of a log of lines `0`, `1` and so on, each beginning with the newest.
fn written(lines: u32, bytes: u64, keep: u32) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let rotate = Some(Rotation { bytes, keep });
    let plan = LogPlan { file: LogTarget::File(path.clone()), sample: 1.0, rotate };
    for line in 0..lines {
        // One that was opened anew counts what is there.
        let log = LineLog::new("test log", Arc::default());
        log.commit(log.prepare(Some(&plan)).unwrap());
        log.write(line.to_string().into_bytes());
        log.close();
    }
    let paths = std::iter::once(path.clone()).chain((1..).map(|age| rotated(&path, age)));
    paths.map_while(|path| std::fs::read_to_string(path).ok()).collect()
}

#[test]
fn a_full_file_is_put_aside_and_the_oldest_goes() {
    assert_eq!(written(7, 4, 2), ["6\n", "4\n5\n", "2\n3\n"]);
    assert_eq!(written(2, 100, 2), ["0\n1\n"]);
    assert_eq!(written(3, 1, 0), ["2\n"]);
}

fn to(path: &Path) -> LogPlan {
    LogPlan { file: LogTarget::File(path.to_owned()), sample: 1.0, rotate: None }
}

#[test]
fn what_a_full_disk_does_not_take_is_counted() {
    let dropped = Arc::<AtomicU64>::default();
    let log = LineLog::new("test log", Arc::clone(&dropped));
    log.commit(log.prepare(Some(&to(Path::new("/dev/full")))).unwrap());
    for _ in 0..3 {
        log.write(b"line".to_vec());
    }
    log.close();
    assert_eq!(dropped.load(Relaxed), 3);
}

#[test]
fn a_file_that_was_removed_is_made_anew_and_lines_without_a_folder_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let path = logs.join("log.jsonl");
    let dropped = Arc::<AtomicU64>::default();
    let log = LineLog::new("test log", Arc::clone(&dropped));
    log.commit(log.prepare(Some(&to(&path))).unwrap());
    std::fs::remove_file(&path).unwrap();
    log.write(b"one".to_vec());
    log.close();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
    log.commit(log.prepare(Some(&to(&path))).unwrap());
    std::fs::remove_dir_all(&logs).unwrap();
    log.write(b"two".to_vec());
    log.close();
    assert_eq!(dropped.load(Relaxed), 1);
}

#[test]
fn only_owner_and_group_may_read_a_file_that_is_made_here() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let log = LineLog::new("test log", Arc::default());
    log.commit(log.prepare(Some(&to(&path))).unwrap());
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
}

#[test]
fn a_pipe_without_a_reader_is_an_error_and_no_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let log = LineLog::new("test log", Arc::default());
    let error = log.prepare(Some(&to(&path))).unwrap_err();
    assert!(error.to_string().contains("cannot open the test log"), "{error}");
}
