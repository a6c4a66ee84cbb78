//! The thread that starts children. The kernel kills a child when the *thread* that started it ends, so that
//! thread must live as long as the process.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::os::die_with_starter;

type Order = (Command, SyncSender<io::Result<Child>>);

/// Starts a command on the thread that never ends. What it starts ends with this process, however that ends.
pub(super) fn spawn(command: Command) -> io::Result<Child> {
    let (answer, started) = sync_channel(1);
    let gone = || io::Error::other("the thread that starts sandboxes is gone");
    thread()?.send((command, answer)).map_err(|_| gone())?;
    started.recv().map_err(|_| gone())?
}

fn thread() -> io::Result<&'static SyncSender<Order>> {
    static ORDERS: OnceLock<SyncSender<Order>> = OnceLock::new();
    if let Some(orders) = ORDERS.get() {
        return Ok(orders);
    }
    let (orders, next) = sync_channel::<Order>(16);
    let serve = move || {
        for (mut command, answer) in next {
            die_with_starter(&mut command);
            // Whoever asked may have gone; then the child is dropped and sees its socket close.
            let _ = answer.send(command.spawn());
        }
    };
    std::thread::Builder::new()
        .name("sandbox-spawner".to_owned())
        .spawn(serve)?;
    // If two threads come here at once, one of the spawners gets no orders and ends; it has no children.
    Ok(ORDERS.get_or_init(|| orders))
}
