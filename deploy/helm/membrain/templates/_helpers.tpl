{{/* Names, and what all parts of a release have in common. */}}
{{- define "membrain.name" -}}
{{- if contains "membrain" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-membrain" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "membrain.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "membrain.labels" -}}
app.kubernetes.io/name: membrain
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "membrain.secret" -}}
{{ .Values.secret.existing | default (include "membrain.name" .) }}
{{- end }}

{{/* Another secret is another pod: what runs has read the former one. */}}
{{- define "membrain.secretSum" -}}
checksum/secret: {{ include "membrain.secret" . | printf "%s %s" .Values.secret.value | sha256sum | quote }}
{{- end }}

{{/* Every server's address, between commas: what nodes and engines are given. */}}
{{- define "membrain.servers" -}}
{{- $name := include "membrain.name" . -}}
{{- $servers := list -}}
{{- range $i := until (int .Values.server.replicas) -}}
{{- $host := printf "%s-server-%d.%s-server.%s.svc" $name $i $name $.Release.Namespace -}}
{{- $servers = append $servers (printf "%s:%d" $host (int $.Values.server.port)) -}}
{{- end -}}
{{ join "," $servers }}
{{- end }}
