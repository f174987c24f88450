//! Against a shell script in the place of Parallels' tools.

use super::*;
use crate::disk::tests::{Directory, stand_ins};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

const FAKE: &str = include_str!("fake");
const GOOD: &str = "[    0.000000] Breenix 0.1.0 build abcd on Parallels: 4 CPUs\r\nTEST one ok (1 ms)\r\nTEST two ok (2 ms)\r\n\
    KERNEL_POST_TESTS_COMPLETE build=abcd passed=2 failed=0 skipped=0\r\n";

/// A computer with stand-ins for Parallels' tools, and an image of build `abcd`.
struct Stage {
    directory: Directory,
    host: Host,
    image: PathBuf,
}

impl Stage {
    fn new(name: &str, play: &str, scenario: &str) -> Self {
        let directory = Directory::new(&format!("parallels-{name}"));
        let tools = directory.path().join("bin");
        fs::create_dir(&tools).unwrap();
        fs::write(tools.join("play"), play).unwrap();
        fs::write(tools.join("scenario"), scenario).unwrap();
        for program in ["prlctl", "prl_disk_tool"] {
            fs::write(tools.join(program), FAKE).unwrap();
            fs::set_permissions(tools.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut search_path = tools.into_os_string();
        search_path.push(":");
        search_path.push(std::env::var_os("PATH").unwrap());
        let image = directory.path().join("breenix.img");
        entry::write(stand_ins("abcd"), None, &image).unwrap();
        let times = Times {
            limit: Duration::from_secs(60),
            look: Duration::from_millis(5),
            state: Duration::from_millis(200),
            quiet: Duration::from_millis(100),
            patience: Duration::from_millis(200),
        };
        let host = Host {
            tools: Tools::at(search_path, Duration::from_secs(60)),
            place: Place::at(directory.path().join("target")),
            times,
        };
        Self { directory, host, image }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("bin").join(name)
    }

    fn set_scenario(&self, scenario: &str) {
        fs::write(self.file("scenario"), scenario).unwrap();
    }

    /// The calls so far, without the name of the machine and its paths.
    fn calls(&self) -> Vec<String> {
        let place = format!("{}/", self.directory.path().canonicalize().unwrap().display());
        let text = fs::read_to_string(self.file("calls")).unwrap().replace(&place, "");
        let short = |word: &str| {
            let start = word.find("breenix-").unwrap_or(word.len());
            let tail = word[start..]
                .trim_start_matches("breenix-")
                .trim_start_matches(|letter: char| letter.is_ascii_digit());
            if start < word.len() {
                format!("{}NAME{tail}", &word[..start])
            } else {
                word.to_owned()
            }
        };
        let line = |line: &str| {
            let words: Vec<_> = line
                .split(' ')
                .map(|word| word.split('/').map(short).collect::<Vec<_>>().join("/"))
                .collect();
            words.join(" ")
        };
        text.lines().map(line).collect()
    }

    fn test(&self) -> Result<Counts> {
        self.host.test(&self.image, Size::default(), false, std::io::sink())
    }

    fn error(&self) -> String {
        format!("{:#}", self.test().unwrap_err())
    }

    /// The machine is gone, and what it printed is there.
    fn check_end(&self, log: &str) {
        let machines = self.directory.path().join("bin").read_dir().unwrap();
        let is_one = |file: &fs::DirEntry| file.path().extension().is_some_and(|extension| extension == "state");
        let left = machines.map(Result::unwrap).filter(is_one).count();
        assert_eq!(left, 0, "the machine is still there: {:?}", self.calls());
        assert_eq!(self.host.place.current(), None);
        let machine = self.only_machine();
        assert_eq!(fs::read_to_string(machine.log()).unwrap_or_default(), log);
        assert!(
            !machine
                .log()
                .with_file_name(&machine.name)
                .with_extension("hdd")
                .exists()
        );
    }

    fn only_machine(&self) -> Machine {
        let names: Vec<_> = fs::read_dir(self.directory.path().join("target"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("breenix-"))
            .collect();
        assert_eq!(names.len(), 1);
        self.host.known(&names[0])
    }
}

#[test]
fn a_good_run_takes_these_steps() {
    let stage = Stage::new("good", GOOD, "");
    let mut shown = Vec::new();
    let counts = stage
        .host
        .test(&stage.image, Size::default(), false, &mut shown)
        .unwrap();
    assert_eq!(
        counts,
        Counts {
            passed: 2,
            failed: 0,
            skipped: 0
        }
    );
    assert_eq!(String::from_utf8(shown).unwrap(), GOOD);
    stage.check_end(GOOD);
    let calls = stage.calls().join("\n");
    let expected = "prlctl --version
prlctl create NAME --ostype linux --distribution linux --no-hdd
prlctl set NAME --memsize 4096
prlctl set NAME --cpus 4
prlctl set NAME --efi-boot on
prlctl list -i NAME
prlctl set NAME --device-del cdrom0
prlctl list -i NAME
prlctl set NAME --device-del cdrom1
prlctl list -i NAME
prlctl set NAME --device-del serial0
prlctl list -i NAME
prlctl list -i NAME
prlctl list -i NAME
prl_disk_tool create --hdd target/NAME/NAME.hdd --size 64M
prlctl set NAME --device-add hdd --image target/NAME/NAME.hdd --type plain --position 0
prlctl set NAME --device-bootorder hdd0
prlctl set NAME --device-add serial --output target/NAME/serial.log
prlctl set NAME --device-set serial0 --connect
prlctl list -i NAME
prlctl start NAME
prlctl status NAME
prlctl stop NAME --kill
prlctl status NAME
prlctl delete NAME";
    assert_eq!(calls, expected);
}

#[test]
fn failed_tests_are_counted() {
    let play = GOOD
        .replace("two ok", "two FAILED: why")
        .replace("passed=2 failed=0 skipped=0", "passed=1 failed=1 skipped=0");
    let stage = Stage::new("failed", &play, "");
    assert_eq!(
        stage.test().unwrap(),
        Counts {
            passed: 1,
            failed: 1,
            skipped: 0
        }
    );
    stage.check_end(&play);
}

#[test]
fn another_build_fails_at_once() {
    let play = GOOD.replace("abcd", "beef");
    let play = play.split_inclusive('\n').next().unwrap();
    let stage = Stage::new("build", play, "");
    let error = stage.error();
    assert!(error.contains("the guest is build beef, not abcd"), "{error}");
    stage.check_end(play);
    // The end line is looked at as well.
    let play = GOOD.replace("build=abcd", "build=beef");
    let error = Stage::new("build-end", &play, "").error();
    assert!(error.contains("the end line is of build beef"), "{error}");
}

#[test]
fn a_panic_fails_at_once() {
    let play = "[    0.000000] Breenix 0.1.0 build abcd on Parallels\r\n\r\nkernel panic at kernel/src/main.rs:1:2: why\r\n  0: 0x1 main\r\n";
    let stage = Stage::new("panic", play, "");
    let start = Instant::now();
    let error = stage.error();
    assert!(start.elapsed() < stage.host.times.limit / 2);
    assert!(
        error.contains("the kernel panicked: kernel panic at kernel/src/main.rs:1:2: why"),
        "{error}"
    );
    let log = stage.only_machine().log();
    assert!(
        error.contains(&*log.to_string_lossy()) && error.contains("0: 0x1 main"),
        "{error}"
    );
    stage.check_end(play);
}

#[test]
fn silence_fails_when_the_time_is_up() {
    let mut stage = Stage::new("silence", "", "");
    stage.host.times.limit = Duration::from_millis(300);
    let error = stage.error();
    assert!(
        error.contains("no line KERNEL_POST_TESTS_COMPLETE within 0.3 s"),
        "{error}"
    );
    assert!(error.contains("(it is empty)"), "{error}");
    stage.check_end("");
}

#[test]
fn a_machine_that_stops_early_is_not_waited_for() {
    let play = GOOD.split_inclusive('\n').next().unwrap();
    let stops = r#"case $call in "prlctl status "*) echo "VM x exist stopped" && exit ;; esac"#;
    let stage = Stage::new("early", play, stops);
    let error = stage.error();
    assert!(error.contains("stopped before its tests had ended"), "{error}");
}

/// A part of every call that changes something.
const STEPS: [&str; 12] = [
    "prlctl create",
    "--memsize",
    "--cpus",
    "--efi-boot",
    "prlctl list",
    "--device-del",
    "prl_disk_tool create",
    "--device-add hdd",
    "--device-bootorder",
    "--device-add serial",
    "--connect",
    "prlctl start",
];

#[test]
fn a_step_that_fails_leaves_no_machine() {
    for step in STEPS {
        let scenario = format!("case $call in *'{step}'*) echo broken pipe dream >&2 && exit 3 ;; esac");
        let stage = Stage::new("step", GOOD, &scenario);
        let error = stage.error();
        assert!(
            error.contains(step) && error.contains("broken pipe dream"),
            "{step}: {error}"
        );
        stage.check_end("");
    }
}

#[test]
fn a_step_that_hangs_is_given_up() {
    for step in ["prlctl create", "--efi-boot", "prl_disk_tool create", "prlctl start"] {
        // A child that outlives the script would keep its output open.
        let scenario = format!("case $call in *'{step}'*) sleep 60 && exit ;; esac");
        let mut stage = Stage::new("hang", GOOD, &scenario);
        stage.host.tools = stage.host.tools.within(Duration::from_secs(2));
        let start = Instant::now();
        let error = stage.error();
        assert!(start.elapsed() < Duration::from_secs(40), "{step}");
        assert!(
            error.contains("no answer within 2 s") && error.contains(step),
            "{step}: {error}"
        );
        stage.check_end("");
    }
}

const STUCK: &str = r#"case $call in "prlctl stop "*) echo stopping >"$state" && exit 1 ;; esac"#;

#[test]
fn a_machine_that_is_stuck_takes_no_verdict_away() {
    let stage = Stage::new("stuck", GOOD, STUCK);
    assert_eq!(stage.test().unwrap().passed, 2);
    assert_eq!(stage.host.place.current(), None);
    assert!(stage.calls().contains(&"prlctl stop NAME --kill".to_owned()));
    assert!(!stage.calls().iter().any(|call| call.starts_with("prlctl delete")));
    let left = format!("{:#}", stage.only_machine().destroy().unwrap_err());
    assert!(
        left.contains("abandoned") && left.contains("prlctl delete breenix-"),
        "{left}"
    );
}

#[test]
fn a_machine_that_is_stuck_is_abandoned_for_another() {
    let stage = Stage::new("another", GOOD, "");
    let first = stage.host.create(Size::default()).unwrap();
    assert!(format!("{:#}", stage.host.run().unwrap_err()).contains("scripts/parallels deploy"));
    stage.host.deploy(&stage.image).unwrap();
    stage.host.run().unwrap();
    stage.set_scenario(STUCK);
    stage.host.run().unwrap();
    let second = stage.host.current().unwrap();
    assert_ne!(second.name, first.name);
    assert_eq!(second.image().unwrap(), stage.image.canonicalize().unwrap());
    assert_eq!(fs::read_to_string(second.log()).unwrap(), GOOD);
}

#[test]
fn a_second_run_begins_anew() {
    let stage = Stage::new("second", GOOD, "");
    assert!(format!("{:#}", stage.host.run().unwrap_err()).contains("scripts/parallels deploy"));
    // The first deployment makes a machine.
    let machine = stage.host.deploy(&stage.image).unwrap();
    stage.host.run().unwrap();
    // What the firmware kept is gone (the fake insists), and so is the first run's log.
    stage.host.run().unwrap();
    assert_eq!(fs::read_to_string(machine.log()).unwrap(), GOOD);
    // A second deployment finds the disk and the port of the first one and takes them away.
    stage.host.deploy(&stage.image).unwrap();
    stage.host.run().unwrap();
    let picture = stage.file("picture.png");
    machine.screenshot(&picture).unwrap();
    assert_eq!(fs::read_to_string(picture).unwrap(), "PNG\n");
    // Another one takes its place.
    assert_ne!(stage.host.create(Size::default()).unwrap().name, machine.name);
    assert!(stage.calls().contains(&"prlctl delete NAME".to_owned()));
}

#[test]
fn without_parallels_it_says_what_to_install() {
    let mut stage = Stage::new("missing", GOOD, "");
    let nothing = stage.directory.path().join("nothing");
    stage.host.tools = Tools::at(nothing.into_os_string(), Duration::from_secs(60));
    let error = format!("{:#}", stage.host.create(Size::default()).unwrap_err());
    assert!(
        error.contains("prlctl is not installed") && error.contains("Pro or Business edition"),
        "{error}"
    );
    // Nothing was begun.
    assert!(!stage.directory.path().join("target").exists());
}

#[test]
fn a_log_that_is_emptied_is_read_anew() {
    let directory = Directory::new("parallels-log");
    let path = directory.path().join("log");
    let mut log = Log::new(&path);
    assert_eq!(log.read().unwrap(), b"");
    fs::write(&path, "one\r\ntwo").unwrap();
    assert_eq!(log.read().unwrap(), b"one\r\ntwo");
    assert_eq!(log.lines(), "one\n");
    assert_eq!(log.tail(1), "two");
    fs::write(&path, "3\n").unwrap();
    assert_eq!(log.read().unwrap(), b"3\n");
    assert_eq!(log.lines(), "3\n");
}
