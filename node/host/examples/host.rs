//! Prints what the host sees, and what looking costs.
//!
//! ```sh
//! cargo run --release -p tally-host --example host -- [SECONDS] [PROGRAM...]
//! ```

#![expect(clippy::print_stdout, reason = "it is what this program is for")]

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tally_host::{Computer, Host, Settings, cgroup};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds: u32 = arguments
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(2);
    let programs: Vec<String> = arguments.collect();

    println!("resident before: {} KiB", resident_kib());
    let settings = Settings::new(std::env::temp_dir(), |name| std::env::var(name).ok());
    let mut computer = Computer::new(settings);
    computer.look_for(&programs);
    let start = Instant::now();
    let mut last = None;
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        last = Some(computer.observe(own_processor_time()));
    }
    if let Some(observed) = last {
        print!("{observed}");
    }
    match cgroup::Delegated::open() {
        Ok(_) => println!("cgroup      delegated, and divided"),
        Err(why) => println!("cgroup      none: {why}"),
    }
    let used = own_processor_time();
    let share = used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
    println!("resident after: {} KiB", resident_kib());
    println!(
        "processor time: {} ms in {seconds} s, {share:.3} % of a core",
        used.as_millis()
    );
}

fn own_processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn resident_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap_or("?").trim_end_matches("kB").trim().to_owned()
}
