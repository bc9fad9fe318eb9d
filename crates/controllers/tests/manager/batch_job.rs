//! Jobs.

use portolan_controllers::manager::Timestamp;
use serde_json::{Value, json};

use crate::world::{START, World, lines, number, text, time};

fn job(spec: &Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "sum", "uid": "sum-uid" },
        "spec": {
            "selector": { "matchLabels": { "job": "sum" } },
            "template": {
                "metadata": { "labels": { "job": "sum" } },
                "spec": { "restartPolicy": "Never", "containers": [{ "name": "c", "image": "busybox" }] },
            },
        },
    });
    for (field, value) in spec.as_object().expect("a map") {
        job["spec"][field] = value.clone();
    }
    job
}

/// Runs the controller and does what it wants, until it finds all in order. Gives what it says to
/// people.
fn turn(world: &mut World) -> Vec<String> {
    let mut said = Vec::new();
    for _ in 0..3 {
        let step = world.batch_job("sum");
        if step.writes.is_empty() {
            return said;
        }
        said.extend(world.apply(&step).into_iter().filter(|line| line.starts_with("Job ")));
    }
    panic!("it is never content: {said:?}");
}

fn pods(world: &World) -> Vec<String> {
    world.of_kind("Pod").into_iter().map(|pod| text(pod, "/metadata/name").to_owned()).collect()
}

/// A pod comes to its end now.
fn end(world: &mut World, name: &str, phase: &str) {
    let finished = json!([{ "state": { "terminated": { "finishedAt": time(world.now - START) } } }]);
    world.change("Pod", name, &json!({ "status": { "phase": phase, "containerStatuses": finished } }));
}

fn conditions(world: &World) -> Vec<String> {
    let conditions = world.get("Job", "sum")["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let name = |condition: &Value| {
        format!("{}={} {}", text(condition, "/type"), text(condition, "/status"), text(condition, "/reason"))
    };
    conditions.iter().map(name).collect()
}

#[test]
fn runs_as_many_pods_at_once_as_it_may_until_all_have_succeeded() {
    let mut world = World::new();
    world.put(job(&json!({ "completions": 3, "parallelism": 2 })));
    assert_eq!(
        turn(&mut world),
        [
            "Job sum SuccessfulCreate: Created pod: sum-cbbbb",
            "Job sum SuccessfulCreate: Created pod: sum-dbbbb"
        ]
    );
    let pod = world.get("Pod", "sum-cbbbb");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "sum-uid");
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(text(world.get("Job", "sum"), "/status/startTime"), time(0));
    assert_eq!(number(world.get("Job", "sum"), "/status/active"), 2);
    end(&mut world, "sum-cbbbb", "Succeeded");
    assert_eq!(turn(&mut world), ["Job sum SuccessfulCreate: Created pod: sum-fbbbb"]);
    end(&mut world, "sum-dbbbb", "Succeeded");
    assert_eq!(turn(&mut world), [""; 0], "two are done, and one runs");
    world.now += 5;
    end(&mut world, "sum-fbbbb", "Succeeded");
    assert_eq!(turn(&mut world), ["Job sum Completed: Job completed"]);
    assert_eq!(
        conditions(&world),
        ["SuccessCriteriaMet=True CompletionsReached", "Complete=True CompletionsReached"]
    );
    let status = &world.get("Job", "sum")["status"];
    assert_eq!((number(status, "/succeeded"), number(status, "/active")), (3, 0));
    assert_eq!(text(status, "/completionTime"), time(5));
    assert_eq!(pods(&world).len(), 3, "what has ended stays for its logs");
}

#[test]
fn one_pod_that_succeeds_ends_a_queue_of_work() {
    let mut world = World::new();
    world.put(job(&json!({ "parallelism": 2 })));
    turn(&mut world);
    end(&mut world, "sum-cbbbb", "Succeeded");
    assert_eq!(turn(&mut world), [""; 0], "the other one goes on, and no new one begins");
    assert_eq!(conditions(&world), [""; 0]);
    end(&mut world, "sum-dbbbb", "Succeeded");
    assert_eq!(turn(&mut world), ["Job sum Completed: Job completed"]);
}

/// After 10 s, 20 s, 40 s, and no more than `backoffLimit` times.
#[test]
fn failures_are_waited_for_and_counted() {
    let mut world = World::new();
    world.put(job(&json!({ "completions": 1, "parallelism": 1, "backoffLimit": 2 })));
    turn(&mut world);
    for wait in [10, 20] {
        let name = pods(&world).pop().expect("a pod");
        end(&mut world, &name, "Failed");
        assert_eq!(turn(&mut world), [""; 0]);
        let step = world.batch_job("sum");
        assert_eq!(step.again, Some(Timestamp::from_unix(world.now + wait)));
        world.now += wait;
        assert_eq!(turn(&mut world).len(), 1, "another one after {wait} s");
    }
    let name = pods(&world).pop().expect("a pod");
    end(&mut world, &name, "Failed");
    assert_eq!(
        turn(&mut world),
        ["Job sum BackoffLimitExceeded: Job has reached the specified backoff limit"]
    );
    assert_eq!(
        conditions(&world),
        ["FailureTarget=True BackoffLimitExceeded", "Failed=True BackoffLimitExceeded"]
    );
    assert_eq!(number(world.get("Job", "sum"), "/status/failed"), 3);
    assert_eq!(pods(&world).len(), 3);
}

/// What is decided stays so while the last pods end.
#[test]
fn a_deadline_ends_what_runs_and_then_the_job() {
    let mut world = World::new();
    world.put(job(&json!({ "completions": 5, "parallelism": 2, "activeDeadlineSeconds": 30 })));
    turn(&mut world);
    let due = Timestamp::from_unix(START + 30);
    assert_eq!(world.batch_job("sum").again, Some(due), "it looks again when it is due");
    world.now += 30;
    assert_eq!(turn(&mut world).len(), 2, "both are deleted");
    assert_eq!(conditions(&world), ["FailureTarget=True DeadlineExceeded"]);
    assert_eq!(number(world.get("Job", "sum"), "/status/terminating"), 2);
    world.bury();
    assert_eq!(turn(&mut world), ["Job sum DeadlineExceeded: Job was active longer than specified deadline"]);
    assert_eq!(conditions(&world).len(), 2);
}

#[test]
fn containers_that_fail_count_where_pods_do_not() {
    let mut world = World::new();
    let mut wanted = job(&json!({ "completions": 1, "parallelism": 1, "backoffLimit": 2 }));
    wanted["spec"]["template"]["spec"]["restartPolicy"] = json!("OnFailure");
    world.put(wanted);
    turn(&mut world);
    let restarts = |count: i64| json!({ "status": { "containerStatuses": [{ "restartCount": count }] } });
    world.change("Pod", "sum-cbbbb", &restarts(1));
    assert_eq!(turn(&mut world), [""; 0]);
    world.change("Pod", "sum-cbbbb", &restarts(2));
    assert_eq!(turn(&mut world), ["Job sum SuccessfulDelete: Deleted pod: sum-cbbbb"]);
    assert_eq!(conditions(&world), ["FailureTarget=True BackoffLimitExceeded"]);
}

#[test]
fn an_indexed_job_runs_each_index_once() {
    let mut world = World::new();
    world.put(job(&json!({ "completions": 4, "parallelism": 3, "completionMode": "Indexed" })));
    turn(&mut world);
    let names = |world: &World| {
        let pods = world.of_kind("Pod").into_iter().filter(|pod| text(pod, "/status/phase") == "Pending");
        pods.map(|pod| text(pod, "/spec/hostname").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&world), ["sum-0", "sum-1", "sum-2"]);
    let second = pods(&world)[1].clone();
    let pod = world.get("Pod", &second);
    let index = "batch.kubernetes.io~1job-completion-index";
    for place in ["labels", "annotations"] {
        assert_eq!(text(pod, &format!("/metadata/{place}/{index}")), "1");
    }
    let variable = json!([{ "name": "JOB_COMPLETION_INDEX", "value": "1" }]);
    assert_eq!(pod["spec"]["containers"][0]["env"], variable);
    end(&mut world, &second, "Succeeded");
    turn(&mut world);
    assert_eq!(names(&world), ["sum-0", "sum-2", "sum-3"]);
    // A pod that is no longer there has succeeded all the same.
    world.delete("Pod", &second);
    world.bury();
    turn(&mut world);
    assert_eq!(text(world.get("Job", "sum"), "/status/completedIndexes"), "1");
    assert_eq!(names(&world).len(), 3);
    for name in pods(&world) {
        end(&mut world, &name, "Succeeded");
    }
    assert_eq!(turn(&mut world), ["Job sum Completed: Job completed"]);
    assert_eq!(text(world.get("Job", "sum"), "/status/completedIndexes"), "0-3");
}

#[test]
fn suspends_resumes_and_goes_after_a_while() {
    let mut world = World::new();
    world.put(job(&json!({ "completions": 1, "parallelism": 1, "suspend": true,
        "ttlSecondsAfterFinished": 60 })));
    assert_eq!(turn(&mut world), ["Job sum Suspended: Job suspended"]);
    assert_eq!(pods(&world), [""; 0]);
    assert_eq!(text(world.get("Job", "sum"), "/status/startTime"), "");
    world.change("Job", "sum", &json!({ "spec": { "suspend": false } }));
    assert_eq!(turn(&mut world).len(), 2, "it is resumed, and a pod begins");
    assert_eq!(conditions(&world), ["Suspended=False JobResumed"]);
    world.change("Job", "sum", &json!({ "spec": { "suspend": true } }));
    assert_eq!(turn(&mut world).len(), 2, "it is suspended, and the pod deleted");
    world.bury();
    world.change("Job", "sum", &json!({ "spec": { "suspend": false } }));
    turn(&mut world);
    let name = pods(&world).pop().expect("a pod");
    end(&mut world, &name, "Succeeded");
    turn(&mut world);
    let step = world.batch_job("sum");
    assert_eq!((step.writes.len(), step.again), (0, Some(Timestamp::from_unix(world.now + 60))));
    world.now += 60;
    assert_eq!(lines(&world.batch_job("sum")), ["delete Job sum Foreground None"]);
}

#[test]
fn too_many_pods_are_deleted_the_youngest_that_is_not_ready_first() {
    let mut world = World::new();
    world.put(job(&json!({ "completions": 9, "parallelism": 3 })));
    turn(&mut world);
    let names = pods(&world);
    let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    world.change("Pod", &names[2], &ready);
    world.change("Job", "sum", &json!({ "spec": { "parallelism": 1 } }));
    turn(&mut world);
    let is_left = |pod: &&Value| text(pod, "/metadata/deletionTimestamp").is_empty();
    let left: Vec<_> = world.of_kind("Pod").into_iter().filter(is_left).collect();
    assert_eq!(left.len(), 1);
    assert_eq!(text(left[0], "/metadata/name"), names[2]);
}
