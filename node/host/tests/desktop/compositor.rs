//! A Wayland compositor with one seat and nothing on its screen, which says that its owner is idle when a test wants it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wayland_protocols::ext::idle_notify::v1::server::ext_idle_notification_v1::{
    self, ExtIdleNotificationV1,
};
use wayland_protocols::ext::idle_notify::v1::server::ext_idle_notifier_v1::{
    self, ExtIdleNotifierV1,
};
use wayland_server::backend::ClientData;
use wayland_server::protocol::wl_seat::{self, Capability, WlSeat};
use wayland_server::{
    Client, DataInit, Dispatch, Display, DisplayHandle, GlobalDispatch, ListeningSocket, New,
};

/// A compositor in a thread of its own.
pub(crate) struct Compositor {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Idle,
    Resume,
}

impl Compositor {
    pub(crate) fn start(socket: &Path) -> Self {
        let socket = ListeningSocket::bind_absolute(socket.to_owned()).unwrap();
        let (orders, taken) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut display = Display::<Desktop>::new().unwrap();
            let mut handle = display.handle();
            handle.create_global::<Desktop, WlSeat, ()>(1, ());
            handle.create_global::<Desktop, ExtIdleNotifierV1, ()>(1, ());
            let mut desktop = Desktop::default();
            let mut clients = Vec::new();
            loop {
                if let Some(stream) = socket.accept().unwrap() {
                    clients.push(handle.insert_client(stream, Arc::new(Nobody)).unwrap());
                }
                display.dispatch_clients(&mut desktop).unwrap();
                match taken.recv_timeout(Duration::from_millis(5)) {
                    Ok(Order::Idle) => desktop
                        .notifications
                        .iter()
                        .for_each(ExtIdleNotificationV1::idled),
                    Ok(Order::Resume) => desktop
                        .notifications
                        .iter()
                        .for_each(ExtIdleNotificationV1::resumed),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                display.flush_clients().unwrap();
            }
        });
        Self {
            orders: Some(orders),
            thread: Some(thread),
        }
    }

    pub(crate) fn idle(&self) {
        self.orders.as_ref().unwrap().send(Order::Idle).unwrap();
    }

    pub(crate) fn resume(&self) {
        self.orders.as_ref().unwrap().send(Order::Resume).unwrap();
    }
}

impl Drop for Compositor {
    fn drop(&mut self) {
        self.orders.take();
        drop(self.thread.take().map(JoinHandle::join));
    }
}

struct Nobody;

impl ClientData for Nobody {}

#[derive(Default)]
struct Desktop {
    notifications: Vec<ExtIdleNotificationV1>,
}

impl GlobalDispatch<WlSeat, ()> for Desktop {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        seat: New<WlSeat>,
        (): &(),
        objects: &mut DataInit<'_, Self>,
    ) {
        objects.init(seat, ()).capabilities(Capability::Keyboard);
    }
}

impl GlobalDispatch<ExtIdleNotifierV1, ()> for Desktop {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        notifier: New<ExtIdleNotifierV1>,
        (): &(),
        objects: &mut DataInit<'_, Self>,
    ) {
        objects.init(notifier, ());
    }
}

impl Dispatch<ExtIdleNotifierV1, ()> for Desktop {
    fn request(
        desktop: &mut Self,
        _: &Client,
        _: &ExtIdleNotifierV1,
        request: ext_idle_notifier_v1::Request,
        (): &(),
        _: &DisplayHandle,
        objects: &mut DataInit<'_, Self>,
    ) {
        if let ext_idle_notifier_v1::Request::GetIdleNotification { id, timeout, .. } = request {
            assert_eq!(timeout, 2000);
            desktop.notifications.push(objects.init(id, ()));
        }
    }
}

impl Dispatch<WlSeat, ()> for Desktop {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &WlSeat,
        _: wl_seat::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
    }
}

impl Dispatch<ExtIdleNotificationV1, ()> for Desktop {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &ExtIdleNotificationV1,
        _: ext_idle_notification_v1::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
    }
}
