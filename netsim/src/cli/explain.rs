//! `netsim explain`: the story of one unit or one node.

use std::process::ExitCode;
use std::str::FromStr;

use tally_netsim::happening::Unit;
use tally_netsim::peer::Peer;
use tally_netsim::story::Subject;
use tally_netsim::world::{Options, World};

use super::failure::Failure;
use super::output::Output;
use super::{ExplainArgs, source};

/// A unit as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitName {
    /// The task's number, or the first digits of its id.
    task: String,
    unit: u32,
}

/// A text that names no unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form TASK/UNIT, for example 0/3 or ab12cd34/3")]
pub(super) struct UnitNameError(String);

impl FromStr for UnitName {
    type Err = UnitNameError;

    fn from_str(text: &str) -> Result<Self, UnitNameError> {
        let named = || {
            let (task, unit) = text.split_once('/')?;
            let is_hex = !task.is_empty() && task.chars().all(|digit| digit.is_ascii_hexdigit());
            is_hex
                .then(|| unit.parse().ok())
                .flatten()
                .map(|unit| Self {
                    task: task.to_owned(),
                    unit,
                })
        };
        named().ok_or_else(|| UnitNameError(text.to_owned()))
    }
}

pub(super) fn explain(output: Output, args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let scenario = source::scenario(&args.scenario)?;
    let mut world = World::new(&scenario, args.seed, &Options::default());
    let subject = match (&args.unit, args.device) {
        (Some(name), _) => Subject::Unit(unit(&world, name)?),
        (None, number) => Subject::Node(node(&world, number.unwrap_or(0))?),
    };
    world.tell(subject);
    let until = u64::try_from(world.until().as_millis()).unwrap_or(u64::MAX);
    let bar = output.bar(until);
    world.run_watched(|world| {
        bar.set_position(world.now().as_micros() / 1_000);
        bar.set_message(format!("{}", world.now()));
    });
    bar.finish_and_clear();
    let story = world.onlookers().story.as_ref();
    let lines = story.map(|story| story.lines()).unwrap_or_default();
    output.result(&lines, || lines.join("\n"))?;
    if let Some(finding) = world.finding() {
        let tally_netsim::oracle::Finding { oracle, at, what } = finding;
        output.note(format!("the run ends here: {oracle} at {at}: {what}"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn unit(world: &World, name: &UnitName) -> Result<Unit, Failure> {
    let tasks = world.onlookers().oracles.reference().tasks();
    let number = name.task.parse::<u32>().ok();
    let by_number = tasks.iter().find(|(_, task)| Some(task.number) == number);
    let named = by_number.or_else(|| {
        let digits = name.task.to_lowercase();
        tasks
            .iter()
            .find(|(id, _)| id.to_string().starts_with(&digits))
    });
    let Some((id, task)) = named else {
        return Err(Failure::new(
            format!("find the task {:?}", name.task),
            format!(
                "there are {} tasks, numbered from 0; a task's id is another one with each seed",
                tasks.len()
            ),
        ));
    };
    if name.unit >= task.units {
        return Err(Failure::new(
            format!("find unit {} of {}", name.unit, task.name),
            format!("it has {} units, numbered from 0", task.units),
        ));
    }
    Ok(Unit {
        task: *id,
        unit: name.unit,
    })
}

fn node(world: &World, number: u32) -> Result<Peer, Failure> {
    let node = Peer(number);
    if node.index() < world.nodes() {
        return Ok(node);
    }
    Err(Failure::new(
        format!("find node {number}"),
        format!("there are {} nodes, numbered from 0", world.nodes()),
    ))
}

/// Returns the arguments that tell the story of what a finding is about, if it names a unit or a node.
pub(super) fn subject_of(finding: &str) -> Option<String> {
    let words: Vec<&str> = finding.split_whitespace().collect();
    let number = |word: &str| {
        word.trim_matches(|c: char| !c.is_ascii_digit())
            .parse::<u32>()
    };
    let unit = words.windows(4).find_map(|words| match words {
        ["unit", unit, "of", task] => {
            let task = task.trim_matches(|c: char| !c.is_ascii_hexdigit());
            let is_task = task.len() == 8 && task.chars().all(|c| c.is_ascii_hexdigit());
            let unit = number(unit).ok().filter(|_| is_task)?;
            Some(format!("--unit {task}/{unit}"))
        }
        _ => None,
    });
    unit.or_else(|| {
        words.windows(2).find_map(|words| match words {
            ["node" | "terminal" | "coordinator" | "customer", node] => {
                Some(format!("--device {}", number(node).ok()?))
            }
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_named_by_its_task_and_number() {
        let task = "ab12cd34".to_owned();
        assert_eq!("ab12cd34/7".parse(), Ok(UnitName { task, unit: 7 }));
        for bad in ["7", "/7", "0/", "0/x", "task/1", ""] {
            let error = bad.parse::<UnitName>().unwrap_err();
            assert!(error.to_string().contains("TASK/UNIT"), "{bad}");
        }
    }

    #[test]
    fn a_finding_leads_to_the_story_of_its_unit_or_node() {
        let about = |finding: &str| subject_of(finding).unwrap_or_default();
        assert_eq!(
            about("at 0:00:01.000: unit 3 of ab12cd34 was validated as x"),
            "--unit ab12cd34/3"
        );
        assert_eq!(about("at 0:00:01.000: node 17, again"), "--device 17");
        assert_eq!(about("the sum of unit prices is wrong"), "");
    }
}
