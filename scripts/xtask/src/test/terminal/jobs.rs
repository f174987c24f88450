//! Job control: stopping, foreground and background, and what may touch the terminal.

use super::{Shell, Test};
use anyhow::{Result, ensure};

pub const TESTS: &[Test] = &[
    ("control_z_stops_and_fg_goes_on", control_z_stops_and_fg_goes_on),
    ("bg_goes_on_in_the_background", bg_goes_on_in_the_background),
    ("a_background_reader_stops", a_background_reader_stops),
    (
        "a_background_writer_stops_under_tostop",
        a_background_writer_stops_under_tostop,
    ),
    ("a_stopped_job_is_killed_by_name", a_stopped_job_is_killed_by_name),
    ("a_pipeline_is_one_job", a_pipeline_is_one_job),
    ("two_jobs_take_turns", two_jobs_take_turns),
];

/// Waits in the guest until process `$p` is stopped.
const UNTIL_STOPPED: &str = "until grep -q ^State:.T /proc/$p/status; do :; done";

fn control_z_stops_and_fg_goes_on(shell: &mut Shell) -> Result<()> {
    shell.start("cat")?;
    shell.keys("before\n")?;
    shell.console.expect("before\nbefore\n")?;
    shell.stop()?;
    let status = shell.status()?;
    ensure!(status == 128 + 20, "status {status}");
    let jobs = shell.output("jobs")?;
    ensure!(
        jobs.contains("[1]") && jobs.contains("Stopped") && jobs.contains("cat"),
        "{jobs}"
    );
    shell.keys("fg\n")?;
    shell.console.expect("exec cat")?;
    shell.keys("after\n")?;
    shell.console.expect("after\nafter\n")?;
    shell.keys("\x04")?;
    shell.prompt()?;
    ensure!(shell.output("jobs")?.is_empty());
    Ok(())
}

fn bg_goes_on_in_the_background(shell: &mut Shell) -> Result<()> {
    shell.script(
        "/tmp/until",
        &["until test -e /tmp/go; do sleep 0.05; done; echo \"fin\"\"ished\""],
    )?;
    shell.output("rm -f /tmp/go")?;
    shell.start("sh /tmp/until")?;
    shell.stop()?;
    shell.output("bg")?;
    let output = shell.output("touch /tmp/go; wait %1; echo waited")?;
    ensure!(output.contains("finished\n") && output.contains("waited\n"), "{output}");
    Ok(())
}

fn a_background_reader_stops(shell: &mut Shell) -> Result<()> {
    let jobs = shell.output(&format!("cat & p=$!; {UNTIL_STOPPED}; jobs"))?;
    ensure!(jobs.contains("Stopped (tty input)"), "{jobs}");
    shell.keys("fg\n")?;
    shell.console.expect("cat\n")?;
    shell.keys("mine now\n")?;
    shell.console.expect("mine now\nmine now\n")?;
    shell.keys("\x04")?;
    shell.prompt()
}

fn a_background_writer_stops_under_tostop(shell: &mut Shell) -> Result<()> {
    // Without it, a background job may write.
    ensure!(shell.output("echo free & wait $!")?.contains("free\n"));
    let jobs = shell.output(&format!(
        "stty tostop; /bin/echo \"ti\"\"ed\" & p=$!; {UNTIL_STOPPED}; jobs"
    ))?;
    ensure!(jobs.contains("Stopped (tty output)"), "{jobs}");
    ensure!(!jobs.contains("tied\n"), "{jobs}");
    shell.keys("fg\n")?;
    shell.console.expect("tied\n")?;
    shell.prompt()?;
    shell.output("stty -tostop").map(drop)
}

fn a_stopped_job_is_killed_by_name(shell: &mut Shell) -> Result<()> {
    shell.start("sleep 1000")?;
    shell.stop()?;
    // A stopped process takes a signal other than SIGKILL when it goes on.
    let (output, status) = shell.run("kill %1; fg %1")?;
    ensure!(status == 143, "status {status}: {output}");
    shell.start("sleep 1000")?;
    shell.stop()?;
    let (output, status) = shell.run("kill -9 %1; fg %1")?;
    ensure!(status == 137, "status {status}: {output}");
    ensure!(shell.output("jobs")?.is_empty());
    Ok(())
}

fn a_pipeline_is_one_job(shell: &mut Shell) -> Result<()> {
    // A line has come all the way: the others run, and have the signals' default actions, which a child of the shell gets
    // after it has been forked. Whenever the job is told to go on, it says so.
    let last = [
        "trap \"echo \\\"<goes>\\\" >&2; echo >/tmp/goes\" CONT",
        "read line",
        "echo \"<up>\" >&2",
        "while :; do :; done",
    ];
    shell.script("/tmp/last", &last)?;
    let start = "yes | cat | sh /tmp/last\n";
    // Of each process of the group.
    let states = "g=$(jobs -p); for s in /proc/[0-9]*/stat; do set -- $(cat $s); test $5 = $g && echo $3; done; true";
    shell.keys(start)?;
    shell.console.expect("<up>\n")?;
    shell.stop()?;
    ensure!(shell.output(states)? == "T\n".repeat(3));
    // The jobs go on all together.
    // What the last says to this is not to come later, among other things.
    let told = shell.output("bg; until [ -e /tmp/goes ]; do :; done; rm /tmp/goes")?;
    ensure!(told.contains("<goes>\n"), "{told}");
    let after = shell.output(states)?;
    ensure!(after.lines().count() == 3 && !after.contains('T'), "{after}");
    shell.keys("fg\n")?;
    // The shell names the job before it gives it the terminal, and has it go on after that.
    shell.console.expect("sh /tmp/last")?;
    shell.console.expect("<goes>\n")?;
    // Stopping a job that is in the foreground again proves that it is.
    shell.stop()?;
    ensure!(shell.output(states)? == "T\n".repeat(3));
    let (output, status) = shell.run("kill %1; fg %1")?;
    ensure!(status == 143, "status {status}: {output}");
    // One key ends them all.
    shell.keys(start)?;
    shell.console.expect("<up>\n")?;
    shell.keys("\x03")?;
    shell.prompt()?;
    ensure!(shell.status()? == 130);
    ensure!(shell.run("pidof yes cat")?.0.is_empty());
    Ok(())
}

fn two_jobs_take_turns(shell: &mut Shell) -> Result<()> {
    for name in ["/tmp/first", "/tmp/second"] {
        shell.script(name, &["while read line; do echo $0 reads $line; done"])?;
        shell.start(&format!("sh {name}"))?;
        shell.stop()?;
    }
    for (job, name) in [("1", "/tmp/first"), ("2", "/tmp/second")] {
        shell.keys(&format!("fg %{job}\n"))?;
        shell.console.expect(&format!("exec sh {name}"))?;
        shell.keys("this\n")?;
        shell.console.expect(&format!("{name} reads this\n"))?;
        shell.stop()?;
    }
    shell.run("kill -9 %1; fg %1; kill -9 %2; fg %2")?;
    ensure!(shell.output("jobs")?.is_empty());
    Ok(())
}
