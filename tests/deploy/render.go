// Renders the chart with the libraries that helm renders with: Go's templates, and sprig's
// functions. A value that values.yaml does not name is an error here.
//
// usage: render TEMPLATES < {"Values": ..., "Chart": ..., "Release": ...}
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

// What helm adds to sprig, as far as the chart uses it.
func functions(all *template.Template) template.FuncMap {
	add := sprig.TxtFuncMap()
	add["include"] = func(name string, data interface{}) (string, error) {
		var text bytes.Buffer
		err := all.ExecuteTemplate(&text, name, data)
		return text.String(), err
	}
	add["required"] = func(why string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, errors.New(why)
		}
		return value, nil
	}
	add["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return string(bytes.TrimSuffix(text, []byte("\n"))), err
	}
	return add
}

func render(folder string) error {
	var data map[string]interface{}
	if err := json.NewDecoder(os.Stdin).Decode(&data); err != nil {
		return err
	}
	all := template.New("chart").Option("missingkey=error")
	all.Funcs(functions(all))
	if _, err := all.ParseGlob(filepath.Join(folder, "*.tpl")); err != nil {
		return err
	}
	if _, err := all.ParseGlob(filepath.Join(folder, "*.yaml")); err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return err
	}
	for _, page := range pages {
		fmt.Println("---")
		if err := all.ExecuteTemplate(os.Stdout, filepath.Base(page), data); err != nil {
			return err
		}
		fmt.Println()
	}
	return nil
}

func main() {
	if err := render(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
