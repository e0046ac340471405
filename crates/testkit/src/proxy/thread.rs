use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    task::JoinSet,
};

use super::{
    Gauges,
    fault::{Fault, Plan},
    link::{Ending, Open, serve},
};

/// What the owner can ask for besides a fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Reset,
    Close,
    Refuse,
    Accept,
    /// Look at everybody who has connected by now.
    Admit,
}

/// The owner's end of a proxy's thread; the thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct ProxyThread {
    plan: watch::Sender<Plan>,
    orders: Option<UnboundedSender<(Order, Answer)>>,
    thread: Option<JoinHandle<()>>,
}

impl ProxyThread {
    /// Returns when the port is listened on.
    pub(super) fn start(port: u16, server: SocketAddr, gauges: Arc<Gauges>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Not `block_on`: a test may call this from within its own runtime.
        let listener = {
            let _context = runtime.enter();
            listen(port)?
        };
        let (plan, _) = watch::channel(Plan::default());
        let (orders, received) = unbounded_channel();
        let proxy = Running {
            port,
            server,
            listener: Some(listener),
            plan: plan.clone(),
            ending: watch::Sender::default(),
            links: JoinSet::new(),
            gauges,
        };
        let thread = thread::Builder::new()
            .name(format!("redbrick-proxy-{port}"))
            .spawn(move || runtime.block_on(proxy.run(received)))?;
        Ok(Self { plan, orders: Some(orders), thread: Some(thread) })
    }

    pub(super) fn set(&self, fault: Option<Fault>, only: Option<Range<u64>>) {
        self.plan.send_modify(|plan| *plan = Plan { fault, epoch: plan.epoch + 1, only });
    }

    pub(super) fn order(&self, order: Order) {
        // Only the order to accept can fail.
        let _ = self.try_order(order);
    }

    pub(super) fn try_order(&self, order: Order) -> io::Result<()> {
        let (answer, answered) = mpsc::channel();
        let gone = || io::Error::other("the proxy's thread has ended");
        let orders = self.orders.as_ref().ok_or_else(gone)?;
        orders.send((order, answer)).map_err(|_gone| gone())?;
        answered.recv().map_err(|_gone| gone())?
    }
}

impl Drop for ProxyThread {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Running {
    port: u16,
    server: SocketAddr,
    listener: Option<TcpListener>,
    plan: watch::Sender<Plan>,
    ending: watch::Sender<Ending>,
    links: JoinSet<()>,
    gauges: Arc<Gauges>,
}

impl Running {
    async fn run(mut self, mut orders: UnboundedReceiver<(Order, Answer)>) {
        loop {
            tokio::select! {
                // Orders first: what was asked for has happened before the next client is looked at.
                biased;
                order = orders.recv() => match order {
                    Some((order, answer)) => {
                        let done = self.obey(order).await;
                        // Whoever asked may have been killed meanwhile.
                        let _ = answer.send(done);
                    }
                    None => break,
                },
                Some(_) = self.links.join_next(), if !self.links.is_empty() => {}
                client = accept(self.listener.as_ref()) => self.admit(client),
            }
        }
        self.refuse();
        self.end_links(Ending::Reset).await;
    }

    async fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Reset => self.end_links(Ending::Reset).await,
            Order::Close => self.end_links(Ending::Close).await,
            Order::Refuse => self.refuse(),
            Order::Accept if self.listener.is_none() => {
                self.listener = Some(listen(self.port)?);
            }
            Order::Accept => {}
            Order::Admit => self.admit_waiting().await,
        }
        Ok(())
    }

    fn refuse(&mut self) {
        if let Some(listener) = self.listener.take() {
            // Closed alone it would listen on for a moment when another thread is starting a process, which has a copy
            // of it until it runs its program. Systems that know no shutdown of listeners do without.
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        }
    }

    fn admit(&mut self, client: TcpStream) {
        let plan = self.plan.subscribe();
        let ending = self.ending.subscribe();
        let open = Open::new(&self.gauges);
        self.links.spawn(serve(client, self.server, plan, ending, open));
    }

    /// Whoever has connected by now counts as open, accepted yet or not.
    async fn admit_waiting(&mut self) {
        tokio::task::yield_now().await;
        loop {
            let waiting = tokio::select! {
                biased;
                client = accept(self.listener.as_ref()) => client,
                () = std::future::ready(()) => break,
            };
            self.admit(waiting);
        }
    }

    async fn end_links(&mut self, ending: Ending) {
        self.admit_waiting().await;
        self.ending.send_replace(ending);
        while self.links.join_next().await.is_some() {}
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The next client; never, when nobody listens.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        // What fails here is one client that went away, or a shortage that passes.
        if let Ok((client, _)) = listener.accept().await {
            return client;
        }
        tokio::task::yield_now().await;
    }
}

type Answer = mpsc::Sender<io::Result<()>>;
