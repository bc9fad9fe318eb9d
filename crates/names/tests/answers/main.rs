//! Questions and answers, clause by clause of the behaviour of a cluster's DNS server: a name, a
//! situation, a question and an expectation a line.

mod alias;
mod codes;
mod exist;
mod hostile;
mod messages;
mod notation;
mod order;
mod reverse;
mod scene;
mod search;
mod served;
mod srv;

use scene::Scene;

/// Clause and name, situation, question, answer.
type Case = (&'static str, fn(&mut Scene), &'static str, &'static str);

/// Nothing is changed.
fn as_is(_: &mut Scene) {}

fn run(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (name, change, question, expected) in cases {
        let mut scene = Scene::new();
        change(&mut scene);
        let found = notation::answer(&scene.names(), question);
        if found != *expected {
            wrong.push(format!("{name}: {question}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
