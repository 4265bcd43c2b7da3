package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	crd "github.com/prometheus-operator/prometheus-operator/example"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiyaml "k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

type customResourceArguments struct {
	// Object of one of the kinds that prometheus-operator defines.
	Object json.RawMessage `json:"object"`
}

type customResourceResult struct {
	// Object as the API server stores it: without unknown fields, with defaults.
	Object map[string]any `json:"object"`
	Pruned []string       `json:"pruned"`
	Errors []string       `json:"errors"`
}

// checkCustomResource does what the API server does with an object of an installed definition: prune, default, validate.
func checkCustomResource(arguments customResourceArguments) (*customResourceResult, error) {
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(arguments.Object); err != nil {
		return nil, at("decode", err)
	}
	kind := object.GroupVersionKind()
	definition, err := definitionOf(kind.Kind, kind.Version)
	if err != nil {
		return nil, at("definition", err)
	}
	content := object.UnstructuredContent()
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	result := &customResourceResult{Pruned: []string{}, Errors: []string{}, Object: content}
	result.Pruned = append(result.Pruned, pruning.PruneWithOptions(content, definition.structural, true, options)...)
	defaulting.PruneNonNullableNullsWithoutDefaults(content, definition.structural)
	defaulting.Default(content, definition.structural)
	found := validation.ValidateCustomResource(nil, content, definition.schema)
	found = append(found, listtype.ValidateListSetsAndMaps(nil, definition.structural, content)...)
	if definition.rules != nil {
		ctx := context.Background()
		broken, _ := definition.rules.Validate(ctx, nil, definition.structural, content, nil, celconfig.RuntimeCELCostBudget)
		found = append(found, broken...)
	}
	for _, err := range found {
		result.Errors = append(result.Errors, err.Error())
	}
	return result, nil
}

// definition is one version of a custom resource definition, ready to use.
type definition struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

// compiled definitions, by kind and version.
var compiled = map[string]*definition{}

func definitionOf(kind, version string) (*definition, error) {
	key := kind + "/" + version
	if found, known := compiled[key]; known {
		return found, nil
	}
	all, err := definitions()
	if err != nil {
		return nil, err
	}
	for _, candidate := range all {
		for _, served := range candidate.Spec.Versions {
			if candidate.Spec.Names.Kind == kind && served.Name == version {
				found, err := compile(served.Schema)
				if err == nil {
					compiled[key] = found
				}
				return found, err
			}
		}
	}
	return nil, fmt.Errorf("prometheus-operator defines no kind %q in version %q", kind, version)
}

// definitions are those that prometheus-operator ships.
var definitions = sync.OnceValues(func() ([]apiextensionsv1.CustomResourceDefinition, error) {
	var text bytes.Buffer
	if err := crd.PrintAll(&text); err != nil {
		return nil, err
	}
	var all []apiextensionsv1.CustomResourceDefinition
	documents := apiyaml.NewYAMLReader(bufio.NewReader(&text))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var one apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(document, &one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
})

func compile(served *apiextensionsv1.CustomResourceValidation) (*definition, error) {
	internal := &apiextensions.CustomResourceValidation{}
	err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(served, internal, nil)
	if err != nil {
		return nil, err
	}
	structural, err := schema.NewStructural(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	rules := cel.NewValidator(structural, true, celconfig.PerCallLimit)
	return &definition{structural: structural, schema: validator, rules: rules}, nil
}
