// A management server made with go-control-plane: it serves the snapshots that it is told on its standard input, and says on
// its standard output what the proxies answer. `cargo xtask control-plane` writes and reads both.
//
// Input, one JSON object a line: the resources of each type with their version,
//
//	{"cds": {"version": "3", "resources": [{...}]}, "eds": ..., "lds": ..., "rds": ...}
//
// or {"streams": true}. Output, one line each:
//
//	listening <address>
//	set                            the snapshot is served
//	failed <text>                  the snapshot was refused by the cache
//	ack <type> <version>
//	nack <type> <version> <text>
//	waiting <count>                answers that no proxy has acknowledged yet; the answer to {"streams": true}
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
)

// The node whose snapshot is served.
const node = "fleet"

var short = map[string]string{
	resource.ClusterType:  "cds",
	resource.EndpointType: "eds",
	resource.ListenerType: "lds",
	resource.RouteType:    "rds",
}

// One type of resource as the input states it.
type resources struct {
	Version   string            `json:"version"`
	Resources []json.RawMessage `json:"resources"`
}

type command struct {
	Clusters  resources `json:"cds"`
	Endpoints resources `json:"eds"`
	Listeners resources `json:"lds"`
	Routes    resources `json:"rds"`
	Streams   bool      `json:"streams"`
}

// What identifies an answer that was not acknowledged yet.
type sent struct {
	delta  bool
	stream int64
	nonce  string
}

// Follows what is sent and acknowledged.
type record struct {
	mutex   sync.Mutex
	waiting map[sent]string
}

func (r *record) say(format string, arguments ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, arguments...), "\n", " ")
	r.mutex.Lock()
	defer r.mutex.Unlock()
	fmt.Println(text)
}

func (r *record) send(what sent, version string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.waiting[what] = version
}

func (r *record) hear(what sent, url string, message string) {
	r.mutex.Lock()
	version, known := r.waiting[what]
	delete(r.waiting, what)
	r.mutex.Unlock()
	if !known {
		return
	}
	if message != "" {
		r.say("nack %s %s %s", short[url], version, message)
	} else {
		r.say("ack %s %s", short[url], version)
	}
}

func (r *record) close(delta bool, stream int64) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for what := range r.waiting {
		if what.delta == delta && what.stream == stream {
			delete(r.waiting, what)
		}
	}
}

func (r *record) callbacks() server.Callbacks {
	return server.CallbackFuncs{
		StreamRequestFunc: func(stream int64, request *discovery.DiscoveryRequest) error {
			what := sent{false, stream, request.GetResponseNonce()}
			r.hear(what, request.GetTypeUrl(), request.GetErrorDetail().GetMessage())
			return nil
		},
		StreamResponseFunc: func(_ context.Context, stream int64, _ *discovery.DiscoveryRequest, response *discovery.DiscoveryResponse) {
			r.send(sent{false, stream, response.GetNonce()}, response.GetVersionInfo())
		},
		StreamClosedFunc: func(stream int64, _ *corev3.Node) { r.close(false, stream) },
		StreamDeltaRequestFunc: func(stream int64, request *discovery.DeltaDiscoveryRequest) error {
			what := sent{true, stream, request.GetResponseNonce()}
			r.hear(what, request.GetTypeUrl(), request.GetErrorDetail().GetMessage())
			return nil
		},
		StreamDeltaResponseFunc: func(stream int64, _ *discovery.DeltaDiscoveryRequest, response *discovery.DeltaDiscoveryResponse) {
			r.send(sent{true, stream, response.GetNonce()}, response.GetSystemVersionInfo())
		},
		DeltaStreamClosedFunc: func(stream int64, _ *corev3.Node) { r.close(true, stream) },
	}
}

func read(from resources, make func() types.Resource) (cache.Resources, error) {
	var all []types.Resource
	for _, text := range from.Resources {
		message := make()
		if err := protojson.Unmarshal(text, message); err != nil {
			return cache.Resources{}, err
		}
		all = append(all, message)
	}
	return cache.NewResources(from.Version, all), nil
}

func (c *command) snapshot() (*cache.Snapshot, error) {
	var snapshot cache.Snapshot
	for _, part := range []struct {
		kind types.ResponseType
		from resources
		make func() types.Resource
	}{
		{types.Cluster, c.Clusters, func() types.Resource { return &clusterv3.Cluster{} }},
		{types.Endpoint, c.Endpoints, func() types.Resource { return &endpointv3.ClusterLoadAssignment{} }},
		{types.Listener, c.Listeners, func() types.Resource { return &listenerv3.Listener{} }},
		{types.Route, c.Routes, func() types.Resource { return &routev3.RouteConfiguration{} }},
	} {
		all, err := read(part.from, part.make)
		if err != nil {
			return nil, err
		}
		snapshot.Resources[part.kind] = all
	}
	return &snapshot, nil
}

func serve(address string, snapshots cache.Cache, record *record) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	management := server.NewServer(context.Background(), snapshots, record.callbacks())
	transport := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(transport, management)
	clusterservice.RegisterClusterDiscoveryServiceServer(transport, management)
	endpointservice.RegisterEndpointDiscoveryServiceServer(transport, management)
	listenerservice.RegisterListenerDiscoveryServiceServer(transport, management)
	routeservice.RegisterRouteDiscoveryServiceServer(transport, management)
	record.say("listening %s", listener.Addr())
	return transport.Serve(listener)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	address := flag.String("address", "127.0.0.1:0", "where to listen")
	ads := flag.Bool("ads", false, "keep the order of aggregated discovery")
	flag.Parse()
	record := &record{waiting: map[sent]string{}}
	snapshots := cache.NewSnapshotCache(*ads, cache.IDHash{}, nil)
	go func() { fail(serve(*address, snapshots, record)) }()
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var told command
		if err := json.Unmarshal(line, &told); err != nil {
			fail(err)
		}
		if told.Streams {
			record.mutex.Lock()
			count := len(record.waiting)
			record.mutex.Unlock()
			record.say("waiting %d", count)
			continue
		}
		snapshot, err := told.snapshot()
		if err == nil {
			err = snapshots.SetSnapshot(context.Background(), node, snapshot)
		}
		if err != nil {
			record.say("failed %s", err)
		} else {
			record.say("set")
		}
	}
}
