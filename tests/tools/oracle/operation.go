package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
)

// operations by name.
var operations = map[string]operation{
	"config":      operate(generateConfig),
	"crd":         operate(checkCustomResource),
	"endpointssd": operate(discoverEndpoints),
	"labels":      operate(labelSeries),
	"patch":       operate(patchPod),
	"podsd":       operate(discoverPods),
	"psa":         operate(checkPodSecurity),
	"sent":        operate(sendPod),
	"validate":    operate(validatePod),
}

// operation is a function from arguments to a result, both JSON.
type operation func(arguments json.RawMessage) (any, error)

type request struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args"`
}

type reply struct {
	Result  any      `json:"result,omitempty"`
	Failure *failure `json:"failure,omitempty"`
}

// failure is an error with the step that it happened in.
type failure struct {
	Stage   string `json:"stage"`
	Message string `json:"message"`
}

func (f *failure) Error() string {
	return f.Stage + ": " + f.Message
}

// at says in which step an error happened.
func at(stage string, err error) error {
	return &failure{Stage: stage, Message: err.Error()}
}

// operate gives a function the arguments in its own type.
func operate[A any, R any](run func(A) (R, error)) operation {
	return func(raw json.RawMessage) (any, error) {
		var arguments A
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&arguments); err != nil {
			return nil, at("arguments", err)
		}
		return run(arguments)
	}
}

// answer never panics: upstream's panic is a failure of this request, not of the process.
func answer(line []byte) (answered reply) {
	defer func() {
		if panicked := recover(); panicked != nil {
			answered = reply{Failure: &failure{"panic", fmt.Sprintf("%v\n%s", panicked, debug.Stack())}}
		}
	}()
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return reply{Failure: &failure{"request", err.Error()}}
	}
	run, known := operations[asked.Op]
	if !known {
		names := slices.Sorted(maps.Keys(operations))
		return reply{Failure: &failure{"request", fmt.Sprintf("there is no operation %q, only %v", asked.Op, names)}}
	}
	result, err := run(asked.Args)
	if err == nil {
		return reply{Result: result}
	}
	var staged *failure
	if !errors.As(err, &staged) {
		staged = &failure{asked.Op, err.Error()}
	}
	return reply{Failure: staged}
}
