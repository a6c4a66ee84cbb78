//! The `netsim` command.

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let file = args.next().unwrap_or_default();
    let seed = args.next().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let scenario = tally_netsim::scenario::Scenario::parse("x", &std::fs::read_to_string(file)?)?;
    let start = std::time::Instant::now();
    let mut world = tally_netsim::world::World::new(&scenario, seed, &Default::default());
    world.run();
    #[expect(clippy::print_stdout, reason = "a command")]
    {
        println!(
            "{}",
            serde_json::to_string_pretty(&world.report(start.elapsed()))?
        );
    }
    Ok(())
}
